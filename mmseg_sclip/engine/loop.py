"""The test loop: every image once over all processes, samples that cannot be read left out where that is wanted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Sized
from typing import Any

import torch
from mmengine.dataset import pseudo_collate
from mmengine.dist import get_dist_info
from mmengine.hooks import Hook
from mmengine.registry import FUNCTIONS
from mmengine.runner import Runner, TestLoop
from mmseg.registry import DATA_SAMPLERS, LOOPS
from torch.utils.data import Sampler

from .metric import ExactIoUMetric, image_key

SKIPPED = 'skipped'  # the key of what takes the place of a sample that cannot be read


@DATA_SAMPLERS.register_module()
class EvaluationSampler(Sampler):
    """Each sample once over all processes, in the order of the dataset; none is repeated to make them even.

    Args:
        dataset: The dataset.
        seed: Kept for MMEngine's interface.

    Attributes:
        done: Indices that are left out, since they were finished before.
    """

    def __init__(self, dataset: Sized, seed: int | None = None) -> None:
        self.dataset = dataset
        self.done: set[int] = set()

    def __iter__(self) -> Iterator[int]:
        return iter(self._own())

    def __len__(self) -> int:
        return len(self._own())

    def set_epoch(self, epoch: int) -> None:
        """Do nothing: the order is that of the dataset."""

    def _own(self) -> list[int]:
        rank, processes = get_dist_info()
        return [index for index in range(len(self.dataset)) if index not in self.done][rank::processes]


@FUNCTIONS.register_module()
def collate_readable(samples: Sequence[Mapping]) -> dict[str, Any]:
    """MMEngine's `pseudo_collate` of the samples that could be read, and the others under `SKIPPED`."""
    readable = [sample for sample in samples if SKIPPED not in sample]
    batch = pseudo_collate(readable) if readable else dict(inputs=[], data_samples=[])
    return {**batch, SKIPPED: [sample[SKIPPED] for sample in samples if SKIPPED in sample]}


class SkippingPipeline:
    """A pipeline that returns a reason in place of a sample that cannot be read.

    Args:
        pipeline: From what a dataset knows of a sample to the packed sample.
        errors: Those that mean that a sample cannot be read.
    """

    def __init__(self, pipeline: Any, errors: type[Exception] | tuple[type[Exception], ...]) -> None:
        self.pipeline = pipeline
        self.errors = errors

    def __call__(self, sample: dict) -> dict:
        """The packed sample, or its key, image and reason under `SKIPPED`."""
        key, image = image_key(sample), sample.get('img_path', '')
        try:
            return self.pipeline(sample)
        except self.errors as error:
            return {SKIPPED: dict(key=key, image=image, reason=' '.join(str(error).split()))}


@LOOPS.register_module()
class EvaluationLoop(TestLoop):
    """MMEngine's `TestLoop`, which notes what is skipped.

    Attributes:
        skipped: {key, image, reason} of the samples of this process that could not be read.
        journals: Where they are recorded.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.skipped: list[dict[str, str]] = []
        self.journals = []

    @torch.no_grad()
    def run_iter(self, idx: int, data_batch: dict) -> None:
        """Test a batch, if anything of it could be read."""
        for sample in data_batch.pop(SKIPPED, ()):
            self.skipped.append(sample)
            self.runner.logger.warning(f'Skipped: {sample["reason"]}')
            for journal in self.journals:
                journal.add(sample['key'], None, sample['reason'])
        if len(data_batch['inputs']):
            super().run_iter(idx, data_batch)


class RecordHook(Hook):
    """Record a batch after all other hooks, since a resumed test does not draw or write what is recorded.

    Args:
        metrics: Those that have a journal.
    """

    priority = 'LOWEST'

    def __init__(self, metrics: Sequence[ExactIoUMetric]) -> None:
        self.metrics = metrics

    def after_test_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: Sequence | None = None
    ) -> None:
        """Record the images of the batch."""
        for metric in self.metrics:
            metric.record()
