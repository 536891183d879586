"""What configs must have in common to be compared: classes, and the images and ground truth of a dataset."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from mmengine.config import Config
from mmseg.registry import TRANSFORMS
from mmseg.structures import SegDataSample

from ..checks import is_a
from ..datasets.transforms import ScoreCentre
from ..errors import ConfigError, describe
from .methods import Method
from .subjects import Subject

_TRIED = 10  # images


def check_classes(methods: Sequence[Method]) -> None:
    """Refuse configs that have different classes, before anything large is done.

    Raises:
        ConfigError: With the first difference.
    """
    first = methods[0]
    for other in methods[1:]:
        if first.classes != other.classes:
            raise ConfigError(
                f'{first.name} and {other.name} have different classes ({len(first.classes)} from '
                f'{first.classes[0]!r} on, {len(other.classes)} from {other.classes[0]!r} on). Compare configs of one '
                'dataset.'
            )


def check_datasets(methods: Sequence[Method]) -> None:
    """Refuse configs that are not evaluated alike on the same images; the others then take the first one's order.

    The listed samples are compared and not the configs, since one dataset can be written in several ways.

    Raises:
        ConfigError: With the first difference.
        MissingFileError: A dataset is not where its config says.
    """
    first = methods[0]
    for other in methods[1:]:
        if _cut(first.config) != _cut(other.config):
            raise ConfigError(
                f'{first.name} and {other.name} are evaluated on different parts of the images: ScoreCentre or a step '
                'before it differs in their test pipelines, and predictions of different sizes cannot be compared. '
                'Compare configs that have the same steps up to ScoreCentre, or both have none.'
            )
        if set(first.ignore_index) != set(other.ignore_index):
            raise ConfigError(
                f'{first.name} and {other.name} ignore different labels: {_listed(first.ignore_index)} and '
                f'{_listed(other.ignore_index)} (ignore_index of test_evaluator).'
            )
        ours, theirs = Counter(other.samples), Counter(first.samples)
        if ours != theirs:
            raise ConfigError(_difference(first, other, next(iter((theirs - ours) or (ours - theirs)))))
        other.follow(first)


def check_truth(subjects: Sequence[Subject], methods: Sequence[Method]) -> None:
    """Refuse test pipelines whose ground truth differs from the first one's, before anything large is done.

    The first image that the first method can read is compared; only the first few are tried.

    Raises:
        ConfigError: With the difference.
    """
    for subject in subjects[:_TRIED] if methods[1:] else ():
        try:
            truth = truth_of(subject.pack(methods[0])['data_samples'])
        except (OSError, ValueError):
            continue
        for method in methods[1:]:
            try:
                other = truth_of(subject.pack(method)['data_samples'])
            except (OSError, ValueError) as error:
                raise ConfigError(
                    f'{method.name} cannot be compared with {methods[0].name}, which can read {subject.path}: '
                    f'{describe(error)}'
                ) from error
            check_equal(methods[0], method, subject, (truth, other))
        return


def check_equal(
    first: Method,
    other: Method,
    subject: Subject,
    truths: Sequence[np.ndarray | None],
    sizes: Sequence[tuple[int, ...]] = (),
) -> None:
    """Refuse two methods if their ground truth of an image differs, or without ground truth the sizes of their labels.

    Raises:
        ConfigError: With the difference.
    """
    pair = f'{first.name} and {other.name}'
    if (truths[0] is None) != (truths[1] is None):
        without = other if truths[1] is None else first
        raise ConfigError(
            f'{pair} cannot be compared: the test pipeline of {without.name} gives no ground truth for {subject.path}. '
            "It must have dict(type='LoadAnnotations') and PackSegInputs."
        )
    sizes = sizes if truths[0] is None else [truth.shape for truth in truths]
    if len(set(sizes)) > 1:
        (height, width), (other_height, other_width) = sizes
        raise ConfigError(
            f'{pair} are evaluated at different sizes: {subject.path} at {height} x {width} and at {other_height} x '
            f'{other_width} pixels. LoadAnnotations must stand after Resize in both test pipelines, and no other step '
            'may change ori_shape.'
        )
    if truths[0] is not None and not np.array_equal(*truths):
        raise ConfigError(
            f'{pair} have different ground truth for {subject.path} after their test pipelines. Compare configs whose '
            'pipelines load the labels alike.'
        )


def truth_of(sample: SegDataSample) -> np.ndarray | None:
    """The true labels (H, W) of a sample, or None."""
    return sample.gt_sem_seg.data[0].cpu().numpy() if 'gt_sem_seg' in sample else None


def _listed(labels: Sequence[int]) -> str:
    return ', '.join(map(str, labels)) or 'none'


def _cut(config: Config) -> list[Mapping]:
    """The steps that decide which part of an image is evaluated, and at which size; empty if it is the whole image."""
    steps = config.test_dataloader.dataset.get('pipeline') or []
    ends = [number for number, step in enumerate(steps, 1) if is_a(TRANSFORMS, step, ScoreCentre)]
    return steps[: max(ends, default=0)]


def _difference(first: Method, other: Method, sample: tuple) -> str:
    """The message about two datasets, one of which lacks a sample."""
    names = f'{first.name} and {other.name}'
    image, *_ = sample
    ours, theirs = ([each for each in method.samples if each[0] == image] for method in (first, other))
    if not ours or not theirs:
        has, lacks = (first, other) if ours else (other, first)
        return (
            f'{names} have different datasets: {image} is an image of {has.name} and not of {lacks.name} '
            f'({len(first.samples)} images and {len(other.samples)}). Compare configs of one dataset and one split.'
        )
    for what, a, b in zip(('images', 'label maps', 'reduce_zero_label', 'label_map'), ours[0], theirs[0], strict=True):
        if a != b:
            values = ' and '.join(str(dict(value) if isinstance(value, frozenset) else value) for value in (a, b))
            return f'{names} have different {what} for {image}: {values}. Compare configs of one dataset.'
    return f'{names} have {image} a different number of times in their datasets. Compare configs of one split.'
