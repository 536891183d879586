"""What a prediction is worth on one image."""

import numpy as np
import torch
from mmseg.evaluation import IoUMetric

RIGHT, WRONG, IGNORED = range(3)


def image_miou(prediction: np.ndarray, truth: np.ndarray, num_classes: int, ignore_index: int = 255) -> float:
    """The mIoU of one image in percent, counted as MMSeg's IoUMetric counts a dataset.

    Pixels whose truth is `ignore_index` do not count, and neither do classes that are absent from both prediction
    and truth. The mean over images is not the mIoU of a dataset, which adds up the areas first.

    Args:
        prediction: (H, W), labels.
        truth: (H, W), labels.
        num_classes: C.
        ignore_index: Of the truth.

    Returns:
        nan where every pixel is ignored.
    """
    intersect, union, _, _ = IoUMetric.intersect_and_union(
        torch.from_numpy(prediction.astype(np.int64)),
        torch.from_numpy(truth.astype(np.int64)),
        num_classes,
        ignore_index,
    )
    return 100 * float(torch.nanmean(intersect / union))  # 0 / 0 is nan


def error_map(prediction: np.ndarray, truth: np.ndarray, ignore_index: int = 255) -> np.ndarray:
    """Where a prediction is right.

    Args:
        prediction: (H, W), labels.
        truth: (H, W), labels.
        ignore_index: Of the truth.

    Returns:
        (H, W) uint8 of RIGHT, WRONG and IGNORED.
    """
    errors = np.where(prediction == truth, RIGHT, WRONG).astype(np.uint8)
    errors[truth == ignore_index] = IGNORED
    return errors


def share_right(errors: np.ndarray) -> float:
    """Percent of the pixels that count; nan where none does."""
    counted = int((errors != IGNORED).sum())
    return 100 * int((errors == RIGHT).sum()) / counted if counted else float('nan')
