"""A config under test: what it has counted so far, in this run and in earlier ones, and its result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mmengine.config import Config
from mmengine.dist import broadcast_object_list, get_world_size, is_main_process
from mmengine.logging import print_log
from mmengine.runner import Runner

from ..errors import ConfigError
from .fingerprint import digest
from .journal import Finished, Journal
from .loop import EvaluationSampler
from .metric import ExactIoUMetric, image_key
from .preparing import name_of
from .result import class_results, finite


@dataclass
class Measured:
    """A config with its metric and its journal, None where it counts nothing, and the parts of its fingerprint."""

    config: Config
    metric: ExactIoUMetric | None
    parts: dict[str, Any]
    journal: Journal | None

    def result(self, images: int, seconds: float, skipped: Sequence[Mapping[str, str]]) -> dict[str, Any]:
        """The content of `result.json`, see `evaluate`.

        Args:
            images: Number of those that were counted.
            seconds: Of the test.
            skipped: With `image` and `reason`, and other keys that are left out.
        """
        counts = None if self.metric is None else self.metric.counts
        metrics = {} if counts is None else {key: finite(value) for key, value in self.metric.unrounded().items()}
        return dict(
            config=name_of(self.config),
            images=images,
            skipped=[dict(image=each['image'], reason=each['reason']) for each in skipped],
            metrics=metrics,
            classes=[] if counts is None else class_results(self.metric.dataset_meta['classes'], counts),
            versions=self.parts['versions'],
            device=self.parts['device'],
            processes=get_world_size(),
            seconds=round(seconds, 3),
            precision=(self.parts['weights'] or {}).get('precision', 'fp32'),
            weights=self.parts['weights'],
            settings=self.parts['settings'],
            fingerprint=digest(self.parts),
        )


def resume_from(runner: Runner, methods: Sequence[Measured], samples: Sequence[Mapping]) -> Finished:
    """What the journals have in common; the sampler leaves it out, and the metrics of one process start from it.

    Args:
        runner: Before its test.
        methods: Those that are tested.
        samples: All of the dataset, in its order.

    Raises:
        ConfigError: There is nothing to resume from, or the rest would not make the whole.
    """
    if any(method.journal is None for method in methods):
        raise ConfigError('--resume goes on from counts, but the evaluator of this config counts nothing.')
    if (metrics := len(runner.test_evaluator.metrics)) > len(methods):
        raise ConfigError(
            f'--resume goes on from the counts of one IoUMetric, but test_evaluator has {metrics} metrics, and the '
            'others would see the remaining images only. Leave --resume out.'
        )
    if not isinstance(runner.test_dataloader.sampler, EvaluationSampler):
        raise ConfigError("--resume needs the sampler of test_dataloader to be dict(type='EvaluationSampler').")
    for method in methods:
        method.journal.refuse_others()
    # The first process reads for all: another one could find records that a third has just written.
    shared = [_read_journals(methods) if is_main_process() else None]
    broadcast_object_list(shared)
    (before,) = shared
    index_of = {image_key(sample): index for index, sample in enumerate(samples)}
    runner.test_dataloader.sampler.done = {index_of[key] for key in before.keys}
    print_log(f'{len(before.keys)} of {len(samples)} images were finished before.', logger='current')
    return before


def _read_journals(methods: Sequence[Measured]) -> Finished:
    """What all journals have in common; the metrics of this process start from its counts."""
    keys = frozenset.intersection(*(frozenset(method.journal.read().keys) for method in methods))
    for method in methods:
        finished = method.journal.read(keys)
        if finished.counts is not None:
            method.metric.start_from(finished.counts)
    return finished


def partial_result(methods: Sequence[Measured], images: int) -> str:
    """A sentence with the metrics of the images that were finished, by all processes and all runs.

    Args:
        methods: Those that are tested.
        images: Number of all.
    """
    sentences = []
    for method in methods:
        if method.journal is None:
            continue
        finished = method.journal.read()
        if finished.counts is None:
            return f'None of {images} images was finished.'
        method.metric.counts = finished.counts
        sentences.append(
            f'{f"{name_of(method.config)}: " if len(methods) > 1 else ""}Partial result of '
            f'{len(finished.keys) - len(finished.skipped)} of {images} images: mIoU '
            f'{method.metric.unrounded()["mIoU"]:.2f}.'
        )
    return ' '.join(sentences)
