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
from ..errors import ConfigError

_KEY = 'ignore_index'


def ignored_labels(value: Any, where: str = f'test_evaluator.{_KEY}') -> tuple[int, ...]:
    """The labels that an `ignore_index` names.

    Args:
        value: One label of any size and sign, or a list of several; an empty list ignores nothing.
        where: The place in the config, as the message shall call it.

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


def metrics_in(evaluator: Any) -> Any:
    """The configs of the metrics that MMEngine's plain `Evaluator` holds; any other `test_evaluator` as it is."""
    if isinstance(evaluator, Mapping) and 'metrics' in evaluator:
        return evaluator['metrics'] if class_of(EVALUATOR, evaluator.get('type', Evaluator)) is Evaluator else evaluator
    return evaluator


def settle_ignored(evaluator: Any, dataset: Mapping) -> None:
    """Let an evaluator ignore what its dataset names, as in MMSegmentation 0.x, where a dataset had the `ignore_index`.

    Args:
        evaluator: The config of an IoUMetric. It gets an `ignore_index` where it has none and the dataset's is not 255.
        dataset: The config of the test dataset, or of one that holds others.

    Raises:
        ConfigError: The two name different labels, or parts of the dataset do.
    """
    found = list(_of_dataset(dataset, 'test_dataloader.dataset'))
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
    evaluators = metrics_in(config['test_evaluator'])
    evaluators = evaluators if isinstance(evaluators, (list, tuple)) else [evaluators]
    found = dict(next((each for each in evaluators if 'type' in each and is_a(METRICS, each, IoUMetric)), {}))
    settle_ignored(found, config['test_dataloader']['dataset'])
    return ignored_labels(found.get(_KEY, default_ignored(classes)))


def _of_dataset(dataset: Mapping, where: str) -> Iterator[tuple[str, Any, bool]]:
    """For each dataset that holds no others: its place, its `ignore_index`, and whether its config has one."""
    if 'dataset' in dataset:  # RepeatDataset
        yield from _of_dataset(dataset['dataset'], f'{where}.dataset')
    elif 'datasets' in dataset:  # ConcatDataset
        for number, part in enumerate(dataset['datasets']):
            yield from _of_dataset(part, f'{where}.datasets.{number}')
    elif _KEY in dataset:
        yield where, dataset[_KEY], True
    else:
        # A class of the user's may have a default of its own.
        kinds = getattr(class_of(DATASETS, dataset.get('type')), '__mro__', ())
        parameters = [inspect.signature(kind.__init__).parameters for kind in kinds if '__init__' in vars(kind)]
        yield where, next((each[_KEY].default for each in parameters if _KEY in each), 255), False
