"""What methods make of images, and what it is worth; an image that cannot be used does not stop the others."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from rich.console import Console
from rich.markup import escape
from rich.progress import track
from torch import Tensor

from ..engine.label_size import labels_at
from ..notes import NOTES, say
from .comparable import check_equal, truth_of
from .methods import Method
from .subjects import Subject

Device = torch.device | str | None  # None for a GPU where there is one
Failures = dict[Subject, Exception]  # why an image could not be used
_SAID: set[str] = set()  # kinds of notes, which all methods share


class Prediction(NamedTuple):
    """What one method makes of one image.

    Attributes:
        subject: The image.
        labels: (H, W), at the size of the ground truth, or else of the image.
        truth: (H, W) labels, or None.
        miou: In percent; nan without ground truth, and where all of it is ignored.
    """

    subject: Subject
    labels: np.ndarray
    truth: np.ndarray | None
    miou: float


class Criterion(NamedTuple):
    """What images are ranked by.

    Attributes:
        methods: Indices of the methods that must predict the whole dataset.
        value: From their mIoU on an image to one number.
    """

    methods: tuple[int, ...]
    value: Callable[..., float]


CRITERIA = {
    'first': Criterion((0,), lambda first: first),
    'last': Criterion((-1,), lambda last: last),
    'gain': Criterion((0, -1), lambda first, last: last - first),
}


def compare(
    subjects: Sequence[Subject], methods: Sequence[Method], device: Device, failures: Failures
) -> list[list[Prediction]]:
    """For each image what the methods make of it, in the order of the images; those that failed are left out.

    Raises:
        ConfigError: Methods are evaluated at different sizes or on different ground truth.
    """
    compared: dict[Subject, list[Prediction]] = {}
    for method in methods:
        for prediction in _predictions(subjects, method, device, failures):
            before = compared.setdefault(prediction.subject, [])
            if before:
                sizes = (before[0].labels.shape, prediction.labels.shape)
                check_equal(methods[0], method, prediction.subject, (before[0].truth, prediction.truth), sizes)
            before.append(prediction)
    return [compared[subject] for subject in subjects if subject not in failures]


def score(
    subjects: Sequence[Subject], methods: Sequence[Method], device: Device, failures: Failures
) -> dict[Subject, list[float]]:
    """The mIoU of each method on each image that has ground truth and did not fail."""
    scores: dict[Subject, list[float]] = {}
    for method in methods:
        for prediction in _predictions(subjects, method, device, failures):
            if prediction.truth is not None:
                scores.setdefault(prediction.subject, []).append(prediction.miou)
    return {subject: values for subject, values in scores.items() if subject not in failures}


def rank(scores: Mapping[Subject, Sequence[float]], by: str, worst: bool, count: int) -> list[Subject]:
    """The worst or the best images, the most extreme first; equal ones in the order of the dataset.

    Args:
        scores: For each image the mIoU of the criterion's methods; images with nan are left out.
        by: A key of CRITERIA.
        worst: Lowest numbers first.
        count: How many at most.
    """
    values = {subject: CRITERIA[by].value(*each) for subject, each in scores.items()}
    known = [subject for subject, value in values.items() if not math.isnan(value)]
    return sorted(known, key=lambda subject: values[subject] if worst else -values[subject])[:count]


def image_miou(counts: Tensor) -> float:
    """The mIoU of one image in percent.

    Classes that are absent from both prediction and truth do not count. The mean over images is not the mIoU of a
    dataset, which adds up the areas first.

    Args:
        counts: (C, 4), from `ExactIoUMetric.count`.

    Returns:
        nan where every pixel is ignored.
    """
    intersect, union = counts.double().unbind(dim=1)[:2]
    return 100 * float(torch.nanmean(intersect / union))  # 0 / 0 is nan


def share_right(prediction: np.ndarray, truth: np.ndarray, ignore_index: int | Sequence[int]) -> float:
    """Percent of the pixels (H, W) that count whose label is the true one; nan where none counts."""
    counted = ~np.isin(truth, ignore_index)
    return 100 * float((prediction == truth)[counted].mean()) if counted.any() else math.nan


def _predictions(
    subjects: Sequence[Subject], method: Method, device: Device, failures: Failures
) -> Iterator[Prediction]:
    """What a method makes of images, with a progress bar on stderr.

    Images that are damaged, or refused by the pipeline or the model, are added to `failures` and left out.
    """
    bar, metric = Console(stderr=True), method.metric()
    subjects = [subject for subject in subjects if subject not in failures]
    with method.model(device) as model:
        for subject in track(subjects, escape(method.name), console=bar, transient=True, disable=not bar.is_terminal):
            try:
                packed = subject.pack(method)
                say(packed['data_samples'].metainfo.get(NOTES, ()), _SAID)
                sample = method.predict(model, packed)
            except (OSError, ValueError) as error:
                failures[subject] = error
                continue
            labels, truth = sample.pred_sem_seg.data[0], truth_of(sample)
            miou = math.nan if truth is None else image_miou(metric.count(sample.to_dict()))
            shape = sample.metainfo.get('ori_shape', labels.shape) if truth is None else truth.shape
            labels = labels_at(labels, shape, sample.metainfo).cpu().numpy()
            yield Prediction(subject, labels, truth, miou)
