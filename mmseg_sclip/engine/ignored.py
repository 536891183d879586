"""The labels whose pixels a test does not count: what `ignore_index` may be, and where a config says it."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from numbers import Integral
from typing import Any

from mmengine.evaluator import Evaluator
from mmseg.evaluation import IoUMetric
from mmseg.registry import DATASETS, EVALUATOR, METRICS

from ..checks import class_of, is_a
from ..datasets.pipelines import places_of
from ..errors import ConfigError

_KEY = 'ignore_index'


def ignored_labels(value: Any, where: str = f'test_evaluator.{_KEY}') -> tuple[int, ...]:
    """The labels that an `ignore_index` names.

    Args:
        value: One label of any size and sign, or a list of several; an empty list ignores nothing.
        where: The place in the config, for the message.

    Raises:
        ConfigError: It is something else.
    """
    labels = value if isinstance(value, (list, tuple)) else [value]
    if not all(isinstance(label, Integral) and not isinstance(label, bool) for label in labels):
        raise ConfigError(
            f'{where} is {value!r}; it must be a whole number such as 255, or a list of several such as [0, 255]. An '
            'empty list counts every label.'
        )
    return tuple(dict.fromkeys(int(label) for label in labels))


def default_ignored(classes: int) -> int:
    """The label that is ignored where nothing is said: 255, unless that is the number of a class, then 65535."""
    return 255 if classes <= 255 else 65535


def metrics_in(config: Mapping) -> list[Any]:
    """The configs of the metrics of a `test_evaluator`, as a list; MMEngine's plain `Evaluator` is looked into.

    Args:
        config: A whole config.
    """
    evaluator = config.get('test_evaluator')
    if is_plain_evaluator(evaluator):
        evaluator = evaluator['metrics']
    return list(evaluator) if isinstance(evaluator, (list, tuple)) else [evaluator]


def is_plain_evaluator(evaluator: Any) -> bool:
    """Whether a `test_evaluator` is the config of MMEngine's own `Evaluator`, which only holds metrics."""
    if not isinstance(evaluator, Mapping) or 'metrics' not in evaluator:
        return False
    return class_of(EVALUATOR, evaluator.get('type', Evaluator)) is Evaluator


def is_iou(metric: Any) -> bool:
    """Whether the config of a metric is that of an `IoUMetric`, or of a class that derives from it."""
    return isinstance(metric, Mapping) and 'type' in metric and is_a(METRICS, metric, IoUMetric)


def settle_ignored(evaluator: Any, dataset: Mapping) -> None:
    """Let an evaluator ignore what its dataset names, as in MMSegmentation 0.x, where a dataset had the `ignore_index`.

    Args:
        evaluator: The config of an IoUMetric. It gets an `ignore_index` where it has none and the dataset's is not 255.
        dataset: The config of the test dataset, or of one that holds others.

    Raises:
        ConfigError: The two name different labels, or parts of the dataset do.
    """
    found = list(_of_dataset(dataset))
    if _KEY in evaluator:
        found = [('test_evaluator', evaluator[_KEY], True), *(each for each in found if each[2])]
    for where, value, _ in found[1:]:
        if {*ignored_labels(value, f'{where}.{_KEY}')} != {*ignored_labels(found[0][1], f'{found[0][0]}.{_KEY}')}:
            raise ConfigError(
                f'{found[0][0]}.{_KEY} is {found[0][1]!r} and {where}.{_KEY} is {value!r}, but one test ignores the '
                f'same labels in all images. Name all of them in test_evaluator.{_KEY} only, which may be a list.'
            )
    if _KEY not in evaluator and found and ignored_labels(found[0][1], f'{found[0][0]}.{_KEY}') != (255,):
        evaluator[_KEY] = found[0][1]


def ignored_in(config: Mapping, classes: int) -> tuple[int, ...]:
    """The labels that the first IoUMetric of a config does not count.

    Args:
        config: A whole config.
        classes: Number of the dataset's classes.
    """
    found = dict(next(filter(is_iou, metrics_in(config)), {}))
    settle_ignored(found, config['test_dataloader']['dataset'])
    return ignored_labels(found.get(_KEY, default_ignored(classes)))


def _of_dataset(dataset: Mapping) -> Iterator[tuple[str, Any, bool]]:
    """For each part of a dataset: its place, its `ignore_index`, and whether its config has one."""
    for where, part in places_of(dataset, 'test_dataloader.dataset'):
        if _KEY in part:
            yield where, part[_KEY], True
            continue
        # A class of the user's may have a default of its own.
        kinds = getattr(class_of(DATASETS, part.get('type')), '__mro__', ())
        parameters = [inspect.signature(kind.__init__).parameters for kind in kinds if '__init__' in vars(kind)]
        yield where, next((each[_KEY].default for each in parameters if _KEY in each), 255), False
