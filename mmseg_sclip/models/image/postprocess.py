"""From cosines to labels, in the order of SCLIP's code; pure functions.

Classes and queries are on the first axis, and every function takes any part of an image, so that a whole image is
processed in bands of rows.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def query_probabilities(cosines: Tensor, logit_scale: float) -> Tensor:
    """Softmax over all queries: cosines (Q, H, W), which `logit_scale` multiplies first, to probabilities in 0..1."""
    return (cosines * logit_scale).softmax(dim=0)


def best_of_class(scores: Tensor, sizes: Sequence[int]) -> Tensor:
    """The largest score of each class's queries.

    Not the sum: class scores of probabilities need not add up to 1.

    Args:
        scores: (Q, H, W), the queries of a class beside each other.
        sizes: Number of queries of each class.

    Returns:
        (C, H, W).
    """
    if len(sizes) == len(scores):
        return scores
    return torch.stack([queries.amax(dim=0) for queries in scores.split(list(sizes))])


def min_max(maps: Tensor) -> Tensor:
    """Each map (..., H, W) from 0, its smallest value, to 1, its largest; 0 everywhere where it is constant."""
    least, most = maps.amin(dim=(-2, -1), keepdim=True), maps.amax(dim=(-2, -1), keepdim=True)
    return torch.where(most > least, (maps - least) / (most - least), 0)


def count_labels(labels: Tensor, num_classes: int) -> Tensor:
    """Pixels of each class, (C,) int64, in labels (H, W)."""
    return labels.flatten().bincount(minlength=num_classes)


def large_classes(counts: Tensor, area_thd: float, background_index: int) -> Tensor:
    """Which classes cover enough of the predicted foreground.

    A class stays where its pixels are more than `area_thd` of the pixels of all foreground classes
    together; the background always stays.

    Args:
        counts: (C,), int64, pixels of each class in the labels without thresholds.
        area_thd: Share of the foreground, 0..1.
        background_index: The class that is not foreground.

    Returns:
        (C,), bool.
    """
    counts = counts.clone()
    counts[background_index] = 0
    keep = counts > area_thd * counts.sum().double()
    keep[background_index] = True
    return keep


def suppress_classes(scores: Tensor, keep: Tensor) -> Tensor:
    """Set scores (K, H, W) to 0 where keep (K,), bool, is False."""
    return scores * keep.to(scores.dtype)[:, None, None]


def predict_labels(
    scores: Tensor, prob_thd: float | None, background_index: int | None, owners: Tensor | None = None
) -> Tensor:
    """The best class of each pixel; pixels whose best score is below `prob_thd` become background.

    Args:
        scores: (K, H, W), of classes, or of queries: the largest score of a class's queries is the class's score.
        prob_thd: Probability in 0..1; 0 or None for no threshold.
        background_index: The class that unsure pixels get.
        owners: (K,), int64, the class of each query; None for scores of classes.

    Returns:
        (H, W), int64.
    """
    best, labels = scores.max(dim=0)
    labels = labels if owners is None else owners[labels]
    if not prob_thd:
        return labels
    assert background_index is not None  # settings refuse a threshold without one
    return labels.masked_fill(best < prob_thd, background_index)
