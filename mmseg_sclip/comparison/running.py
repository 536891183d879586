"""Predicting the images of a comparison; one that cannot be used does not stop the others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from rich.console import Console
from rich.progress import track

from .images import Subject
from .methods import Method, OneModel
from .scoring import image_miou

Failures = dict[Subject, Exception]  # why an image could not be used


class Prediction(NamedTuple):
    """Labels (H, W) of one method, and the ground truth (H, W) or None."""

    labels: np.ndarray
    truth: np.ndarray | None


@dataclass
class Compared:
    """An image with what the methods made of it.

    Attributes:
        subject: The image.
        pixels: (H, W, 3), uint8, RGB.
        predictions: (H, W) labels, one for each method.
        truth: (H, W) labels, or None.
    """

    subject: Subject
    pixels: np.ndarray
    predictions: list[np.ndarray]
    truth: np.ndarray | None

    def scores(self, method: Method) -> list[float]:
        """The mIoU of each prediction in percent; none without ground truth.

        Args:
            method: Gives the number of classes and the ignored label.
        """
        if self.truth is None:
            return []
        return [image_miou(each, self.truth, len(method.classes), method.ignore_index) for each in self.predictions]


def predictions(
    subjects: Sequence[Subject], method: Method, models: OneModel, failures: Failures
) -> Iterator[tuple[Subject, Prediction]]:
    """What a method makes of images, with a progress bar on stderr.

    Args:
        subjects: The images.
        method: The method.
        models: Builds its model.
        failures: Images that are damaged, or refused by the pipeline or the model, are added to it and left out.
    """
    model = models.of(method)
    bar = Console(stderr=True)
    for subject in track(subjects, description=method.name, console=bar, transient=True, disable=not bar.is_terminal):
        try:
            sample = method.predict(model, subject.pack(method))
            truth = sample.gt_sem_seg.data[0].cpu().numpy() if 'gt_sem_seg' in sample else None
            _check_labels(truth, method)
        except (OSError, ValueError) as error:
            failures[subject] = error
            continue
        yield subject, Prediction(sample.pred_sem_seg.data[0].cpu().numpy(), truth)


def _check_labels(truth: np.ndarray | None, method: Method) -> None:
    """Refuse ground truth that belongs to other classes; the evaluation would count it as wrong and say nothing."""
    if truth is None:
        return
    count = len(method.classes)
    strange = [int(label) for label in np.unique(truth) if label >= count and label != method.ignore_index]
    if strange:
        raise ValueError(
            f'its label map has the labels {strange[:5]}, but the classes are 0 to {count - 1}, and '
            f'{method.ignore_index} is ignored. Convert it as the README says, or name the dataset that it belongs to.'
        )


def compare(
    subjects: Sequence[Subject], methods: Sequence[Method], models: OneModel, failures: Failures
) -> list[Compared]:
    """What all methods make of some images, in the order of the images; those that failed are left out."""
    compared: dict[Subject, Compared] = {}
    for method in methods:
        for subject, (labels, truth) in predictions(subjects, method, models, failures):
            if subject not in compared:
                compared[subject] = Compared(subject, subject.pixels(method), [], truth)
            compared[subject].predictions.append(labels)
        subjects = [subject for subject in subjects if subject not in failures]
    return [compared[subject] for subject in subjects]


def score(
    subjects: Sequence[Subject], methods: Sequence[Method], models: OneModel, failures: Failures
) -> dict[Subject, list[float]]:
    """The mIoU of each method on each image that has ground truth and did not fail."""
    scores: dict[Subject, list[float]] = {}
    for method in methods:
        for subject, (labels, truth) in predictions(subjects, method, models, failures):
            if truth is not None:
                value = image_miou(labels, truth, len(method.classes), method.ignore_index)
                scores.setdefault(subject, []).append(value)
        subjects = [subject for subject in subjects if subject not in failures]
    return {subject: values for subject, values in scores.items() if subject not in failures}
