"""The pixels of one image: a table of exact counts, and what is said of labels that stand for no class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from ..datasets.label_maps import VOID
from .ignored import default_ignored, ignored_labels


def count_pixels(
    pred_label: Tensor, label: Tensor, num_classes: int, ignore_index: int | Sequence[int]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Intersection, union, prediction and truth of each class in pixels, each (C,) int64 on the CPU.

    Args:
        pred_label: (H, W), predicted classes.
        label: (H, W), true classes.
        num_classes: C.
        ignore_index: The label whose pixels are not counted, or several.
    """
    # Two more rows for the truth (no class, ignored), one more column for the prediction (no class).
    ignored, side = num_classes + 1, num_classes + 1
    label = label.to(pred_label.device).long()  # bytes compared with -1 or 65535 would wrap
    rows = _class_or_none(label, num_classes)
    for each in (*ignored_labels(ignore_index), VOID):
        rows.masked_fill_(label == each, ignored)
    pairs = (rows * side + _class_or_none(pred_label, num_classes)).flatten()
    counts = pairs.bincount(minlength=(num_classes + 2) * side).view(-1, side).cpu()[:ignored]
    intersect = counts.diagonal()[:num_classes]
    predicted, truth = counts.sum(dim=0)[:num_classes], counts.sum(dim=1)[:num_classes]
    return intersect, predicted + truth - intersect, predicted, truth


def strange_labels(truth: Tensor, classes: int, ignore_index: int | Sequence[int], sample: Mapping) -> str | None:
    """What is said of a label map with labels that are neither a class nor ignored; None where it has none.

    Args:
        truth: (H, W), the labels.
        classes: Number of the dataset's classes.
        ignore_index: As in `count_pixels`.
        sample: With `img_path` and `reduce_zero_label`.
    """
    truth, ignored = truth.long(), ignored_labels(ignore_index)
    strange = truth[(truth >= classes) | (truth < 0)]
    for each in (*ignored, VOID):
        strange = strange[strange != each]
    if not len(strange):
        return None
    labels = strange.unique().tolist()
    raised = f' ({labels[0] + 1} in the file, of reduce_zero_label)' if sample.get('reduce_zero_label') else ''
    cure = labels[0] if ignored == (default_ignored(classes),) else [*ignored, labels[0]]
    return (
        f'The ground truth of {sample.get("img_path", "an image")} has the label '
        f'{", ".join(map(str, labels[:5]))}{raised}, but there are {classes} classes (0 to {classes - 1}), and '
        f'{", ".join(map(str, ignored)) or "no label"} is ignored. Such pixels count as wrong in the IoU, and '
        f'not at all in aAcc and mAcc. If {labels[0]} marks pixels that belong to no class, set '
        f'test_evaluator=dict(ignore_index={cure}). Otherwise convert the labels, set reduce_zero_label, or '
        'give the vocabulary as many classes.'
    )


def _class_or_none(labels: Tensor, num_classes: int) -> Tensor:
    """Labels as int64, `num_classes` for those that are not a class."""
    labels = labels.long()
    return labels.masked_fill((labels < 0) | (labels >= num_classes), num_classes)
