"""What methods predict for images, and its mIoU; an image that cannot be used does not stop the others."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from mmseg.structures import SegDataSample
from rich.console import Console
from rich.markup import escape
from rich.progress import track
from torch import Tensor

from ..engine.label_size import labels_at
from ..engine.metric import ExactIoUMetric
from ..engine.sharing import passes
from ..notes import NOTES, say
from .comparable import check_equal, truth_of
from .methods import Method, model_of, predict
from .subjects import Subject

Device = torch.device | str | None  # None for a GPU where there is one
Failures = dict[Subject, Exception]  # why an image could not be used
_SAID: set[str] = set()  # kinds of notes that were said, for all methods


class Prediction(NamedTuple):
    """What one method predicts for one image.

    Attributes:
        subject: The image.
        labels: (H, W), at the size of the ground truth, or else of the image.
        truth: (H, W) labels, or None.
        miou: In percent; nan without ground truth, or if all of it is ignored.
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
    """For each image the predictions of all methods, in the order of the images; those that failed are left out.

    Raises:
        ConfigError: Methods are evaluated at different sizes or on different ground truth.
    """
    compared: dict[Subject, list[Any]] = {}
    for group in passes([method.config for method in methods]):
        for predictions in _predictions(subjects, [methods[index] for index in group], device, failures):
            subject, ours = predictions[0].subject, predictions[0]
            before = compared.setdefault(subject, [None] * len(methods))
            if (first := before[0]) is not None:
                sizes = (first.labels.shape, ours.labels.shape)
                check_equal(methods[0], methods[group[0]], subject, (first.truth, ours.truth), sizes)
            for index, prediction in zip(group, predictions, strict=True):
                before[index] = prediction
    return [compared[subject] for subject in subjects if subject not in failures]


def score(
    subjects: Sequence[Subject], methods: Sequence[Method], device: Device, failures: Failures
) -> dict[Subject, list[float]]:
    """The mIoU of each method on each image that has ground truth and did not fail."""
    scores: dict[Subject, list[float]] = {}
    for group in passes([method.config for method in methods]):
        for predictions in _predictions(subjects, [methods[index] for index in group], device, failures):
            for index, prediction in zip(group, predictions, strict=True):
                if prediction.truth is not None:
                    scores.setdefault(prediction.subject, [math.nan] * len(methods))[index] = prediction.miou
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
    subjects: Sequence[Subject], methods: Sequence[Method], device: Device, failures: Failures
) -> Iterator[list[Prediction]]:
    """For each image the predictions of the methods of one pass, with a progress bar on stderr.

    Images that are damaged, or refused by the pipeline or the model, are added to `failures` and left out.
    """
    bar, metrics = Console(stderr=True), [method.metric() for method in methods]
    names = escape(', '.join(method.name for method in methods))
    subjects = [subject for subject in subjects if subject not in failures]
    with model_of(methods, device) as model:
        for subject in track(subjects, names, console=bar, transient=True, disable=not bar.is_terminal):
            try:
                packed = subject.pack(methods[0])
                say(packed['data_samples'].metainfo.get(NOTES, ()), _SAID)
                samples = predict(methods, model, packed)
            except (OSError, ValueError) as error:
                failures[subject] = error
                continue
            yield [_prediction(subject, *each) for each in zip(samples, metrics, strict=True)]


def _prediction(subject: Subject, sample: SegDataSample, metric: ExactIoUMetric) -> Prediction:
    labels, truth = sample.pred_sem_seg.data[0], truth_of(sample)
    miou = math.nan if truth is None else image_miou(metric.count(sample.to_dict()))
    shape = sample.metainfo.get('ori_shape', labels.shape) if truth is None else truth.shape
    return Prediction(subject, labels_at(labels, shape, sample.metainfo).cpu().numpy(), truth, miou)
