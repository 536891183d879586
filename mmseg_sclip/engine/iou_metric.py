"""MMSeg's mIoU with exact counts."""

from collections.abc import Sequence

from mmengine.logging import print_log
from mmseg.evaluation import IoUMetric
from mmseg.registry import METRICS
from torch import Tensor


@METRICS.register_module()
class ExactIoUMetric(IoUMetric):
    """MMSeg's `IoUMetric`, its pixels counted in int64 by one pass, and labels that stand for no class reported.

    MMSeg counts in float32, which is exact below 16.8 million pixels only, in three histograms an image. Labels
    that are neither a class nor ignored count as wrong predictions there without a word; here they do too, and
    the first image that has them is named. Arguments are those of `IoUMetric`.
    """

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self._reported = False

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Count a batch; see `IoUMetric`."""
        for sample in data_samples:
            if not (self._reported or self.format_only):
                self._check(sample)
        super().process(data_batch, data_samples)

    def _check(self, sample: dict) -> None:
        number = len(self.dataset_meta['classes'])
        truth = sample['gt_sem_seg']['data']
        strange = truth[((truth >= number) | (truth < 0)) & (truth != self.ignore_index)]
        if len(strange):
            self._reported = True
            ids = ', '.join(map(str, strange.unique().tolist()[:5]))
            print_log(
                f'The ground truth of {sample.get("img_path", "an image")} has the label {ids}, but there are '
                f'{number} classes (0 to {number - 1}), and {self.ignore_index} is ignored. Such pixels count as '
                'wrong. Convert the labels, set reduce_zero_label, or give the vocabulary as many classes.',
                logger='current',
                level=30,
            )

    @staticmethod
    def intersect_and_union(
        pred_label: Tensor, label: Tensor, num_classes: int, ignore_index: int
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Intersection, union, prediction and truth of each class in pixels, each (C,) int64 on the CPU.

        Args:
            pred_label: (H, W), predicted classes.
            label: (H, W), true classes.
            num_classes: C.
            ignore_index: The label whose pixels are not counted.
        """
        # Two more rows for the truth (no class, ignored), one more column for the prediction (no class).
        ignored, side = num_classes + 1, num_classes + 1
        rows = _or_none(label, num_classes).masked_fill_(label == ignore_index, ignored)
        pairs = (rows * side + _or_none(pred_label, num_classes)).flatten()
        counts = pairs.bincount(minlength=(num_classes + 2) * side).view(-1, side).cpu()[:ignored]
        intersect = counts.diagonal()[:num_classes].clone()
        predicted, truth = counts.sum(dim=0)[:num_classes], counts.sum(dim=1)[:num_classes]
        return intersect, predicted + truth - intersect, predicted, truth


def _or_none(labels: Tensor, num_classes: int) -> Tensor:
    """Labels as int64, `num_classes` for those that are no class."""
    labels = labels.long()
    return labels.masked_fill((labels < 0) | (labels >= num_classes), num_classes)
