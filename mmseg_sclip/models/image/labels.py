"""From class scores to labels, in bands of rows."""

from __future__ import annotations

import torch
from torch import Tensor

from .postprocess import best_of_class, count_labels, large_classes, predict_labels, suppress_classes
from .scores import ClassScores, bands


def label_in_bands(
    scores: ClassScores,
    prob_thd: float | None,
    area_thd: float | None,
    background_index: int | None,
    keep_scores: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Labels from class scores: the area threshold, the best class, the probability threshold.

    Args:
        scores: Of the C classes.
        prob_thd: See `predict_labels`.
        area_thd: See `large_classes`; None for none.
        background_index: The background class.
        keep_scores: Return the class scores, after the area threshold, too.

    Returns:
        Labels (H, W), int64, and the scores (C, H, W) or None.
    """
    classes, height, width = scores.shape
    owners, keep = scores.class_of_part, None
    if area_thd is not None:
        assert background_index is not None  # settings refuse a threshold without one
        counts = torch.zeros(classes, dtype=torch.int64, device=scores.device)
        for first, last in bands(scores.parts):
            counts += count_labels(scores.best(first, last), classes)
        keep = large_classes(counts, area_thd, background_index)
    labels = torch.empty(height, width, dtype=torch.int64, device=scores.device)
    kept = torch.empty(scores.shape, device=scores.device) if keep_scores else None
    for first, last in bands(scores.parts):
        if keep is None and not prob_thd and kept is None:
            labels[first:last] = scores.best(first, last)
            continue
        parts = scores.part_band(first, last)
        parts = parts if keep is None else suppress_classes(parts, keep[owners])
        labels[first:last] = predict_labels(parts, prob_thd, background_index, owners)
        if kept is not None:
            kept[:, first:last] = best_of_class(parts, scores.sizes)
    return labels, kept
