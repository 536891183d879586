"""MMSeg's mIoU from one table of exact counts, and the label maps that `--out` asks for."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from mmengine.dist import all_reduce, broadcast_object_list, is_main_process
from mmengine.logging import print_log
from mmseg.evaluation import IoUMetric
from mmseg.registry import METRICS
from torch import Tensor

from ..checks import check_choice, check_keys, check_number, check_switch
from ..outputs import OutputFolder
from .counting import count_pixels, strange_labels
from .ignored import default_ignored, ignored_labels
from .label_size import labels_at
from .predicted_maps import SUFFIX, write_prediction
from .summary import absent_classes, at_any_level

if TYPE_CHECKING:
    from .journal import Journal


_IOU_METRICS = ('mIoU', 'mDice', 'mFscore')
_PARAMETERS = [
    name for name, each in inspect.signature(IoUMetric).parameters.items() if each.kind is not each.VAR_KEYWORD
]


@METRICS.register_module()
class ExactIoUMetric(IoUMetric):
    """MMSeg's `IoUMetric` with whole numbers of pixels in one table, whatever the number of images.

    MMSeg counts in float32, which is exact below 16.8 million pixels only, and keeps four tensors per image. Labels
    that are neither a class nor ignored count as wrong predictions there without a word; here they do too, and the
    first image that has them is named. Label maps are written so that nothing of the user's is replaced, and images of
    equal names in different folders get maps of their own. The tables are printed at any `log_level`, with the classes
    that no label map holds.

    Args:
        args: Those of `IoUMetric` in its order.
        prediction: Key of the predicted labels in a sample; several methods that are tested together have one each.
        kwargs: Those of `IoUMetric` by name: `iou_metrics`, `nan_to_num`, `beta`, `format_only`, ... `ignore_index` is
            one label of any size and sign, or a list of several; it is 255 where nothing is said, or 65535 where 255 is
            the number of a class. `output_dir` is the folder of the label maps, as PNG; None writes none.

    Raises:
        ConfigError: A key is unknown, or a value is not one that the metric can work with.

    Attributes:
        counts: (C, 4) int64, pixels of each class in the last evaluation: intersection, union, prediction, truth. None
            before it, and where `format_only` is set.
        journal: Where `record` puts the counts of each image; None for nowhere.
        output_folder: Where label maps go; None for nowhere. `SetupHook` looks at it before the test.
    """

    suffix = SUFFIX

    def __init__(self, *args: Any, prediction: str = 'pred_sem_seg', **kwargs: Any) -> None:
        check_metric_keys(kwargs)
        given = inspect.signature(IoUMetric).bind(*args, **kwargs).arguments
        output_dir = given.pop('output_dir', None)
        super().__init__(**given)  # without the folder, which it would make at once
        self._check()
        self._ignores_default = 'ignore_index' not in given
        self.prediction = prediction
        self.output_dir = output_dir
        self.counts: Tensor | None = None
        self.journal: Journal | None = None
        self._unrecorded: list[tuple[str, Tensor]] = []
        self.output_folder = OutputFolder(output_dir, '--out') if output_dir else None
        self._warned = False
        self._resized = False

    def _check(self) -> None:
        """Refuse what would end in an error after the last image, or count something else than the user means."""
        ignored_labels(self.ignore_index)
        for name in [self.metrics] if isinstance(self.metrics, str) else self.metrics:
            check_choice('test_evaluator.iou_metrics', name, _IOU_METRICS)
        check_number('test_evaluator.beta', self.beta)
        if self.nan_to_num is not None:
            check_number('test_evaluator.nan_to_num', self.nan_to_num)
        check_switch('test_evaluator.format_only', self.format_only)

    @property
    def dataset_meta(self) -> dict | None:
        """What is known of the dataset; its classes decide which label is ignored by default."""
        return self._dataset_meta

    @dataset_meta.setter
    def dataset_meta(self, meta: dict) -> None:
        self._dataset_meta = meta
        if self._ignores_default and meta.get('classes') is not None:
            self.ignore_index = default_ignored(len(meta['classes']))

    def process(self, data_batch: dict, data_samples: Sequence[Mapping]) -> None:
        """Count a batch, and write its label maps where they are asked for.

        Args:
            data_batch: Not used.
            data_samples: Each with `pred_sem_seg`, `gt_sem_seg` unless `format_only` is set, and `img_path`.
        """
        for sample in data_samples:
            if not self.format_only:
                counts = self.count(sample)
                self.start_from(counts)
                if self.journal is not None:
                    self._unrecorded.append((image_key(sample), counts))
            if self.output_folder is not None:
                labels = sample[self.prediction]['data'].squeeze(0)
                write_prediction(self.output_folder, sample, labels, len(self.dataset_meta['classes']))

    def record(self) -> None:
        """Record the counted images in the journal, once their pictures and label maps are written."""
        for key, counts in self._unrecorded:
            self.journal.add(key, counts)
        self._unrecorded.clear()

    def start_from(self, counts: Tensor) -> None:
        """Add counts (C, 4) of images that were tested before."""
        self.results[:] = [self.results[0] + counts] if self.results else [counts]  # the table is the only item

    def evaluate(self, size: int) -> dict[str, float]:
        """The metrics over the images of all processes, each of which has a table of its own.

        Args:
            size: Kept for MMEngine's interface; no image is counted twice, so nothing is cut off.
        """
        total = self.results[0] if self.results else torch.zeros(len(self.dataset_meta['classes']), 4).long()
        self.results.clear()
        all_reduce(total)
        metrics = self.compute_metrics([total]) if is_main_process() else None
        self.counts = None if self.format_only else total
        shared = [metrics]
        broadcast_object_list(shared)
        return {f'{self.prefix}/{name}' if self.prefix else name: value for name, value in shared[0].items()}

    def count(self, sample: Mapping) -> Tensor:
        """The counts (C, 4) of one image, see `counts`."""
        classes = len(self.dataset_meta['classes'])
        truth = sample['gt_sem_seg']['data'].squeeze(0)
        predicted = sample[self.prediction]['data'].squeeze(0)
        if predicted.shape != truth.shape:
            predicted = labels_at(predicted, truth.shape, sample, warn=not self._resized)
            self._resized = True
        if not self._warned and (sentence := strange_labels(truth, classes, self.ignore_index, sample)):
            print_log(sentence, logger='current', level=logging.WARNING)
            self._warned = True
        return torch.stack(self.intersect_and_union(predicted, truth, classes, self.ignore_index), dim=1)

    def compute_metrics(self, results: list[Tensor]) -> dict[str, float]:
        """Print MMSeg's tables and return its numbers, in percent with two decimals.

        The classes that no label map holds are named.
        """
        if self.format_only:
            self.counts = None
            return {}
        self.counts = sum(results)
        # Divided as float64: MMEngine's table and `result.json` round the same numbers.
        with at_any_level():
            metrics = super().compute_metrics([self.counts.double().unbind(dim=1)])
            names, ignored = self.dataset_meta['classes'], ignored_labels(self.ignore_index)
            if absent := absent_classes(names, self.counts, ignored, self.nan_to_num):
                print_log(absent, logger='current')
        return metrics

    def unrounded(self) -> dict[str, float]:
        """`aAcc`, `mIoU`, `mAcc` and what else `iou_metrics` asks for, in percent.

        Classes that neither the predictions nor the ground truth have are left out of the means.
        """
        wanted = list(dict.fromkeys(['mIoU', *np.atleast_1d(self.metrics).tolist()]))
        values = self.total_area_to_metrics(*self.counts.double().unbind(dim=1), wanted, self.nan_to_num, self.beta)
        return {
            name if name == 'aAcc' else f'm{name}': 100 * float(np.nanmean(value)) for name, value in values.items()
        }

    intersect_and_union = staticmethod(count_pixels)  # MMSeg calls it by this name


def check_metric_keys(keys: Iterable[str]) -> None:
    """Refuse keys of an `ExactIoUMetric` that it does not know, which `IoUMetric` would swallow.

    Raises:
        ConfigError: There is one.
    """
    check_keys('test_evaluator (ExactIoUMetric)', keys, [*_PARAMETERS, 'prediction', 'type'])


def image_key(sample: Mapping) -> str:
    """What tells an image of a dataset from all others: its file, and that of its label map."""
    return '|'.join(str(sample.get(key) or '') for key in ('img_path', 'seg_map_path'))
