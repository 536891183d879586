"""From averaged cosines to labels, in the order of SCLIP's code; pure functions."""

from collections.abc import Sequence

import torch
from torch import Tensor


def class_scores(cosines: Tensor, logit_scale: float, sizes: Sequence[int]) -> Tensor:
    """Softmax over all queries, then the largest probability of each class's queries.

    Not the sum: the result need not add up to 1 over the classes.

    Args:
        cosines: (Q, H, W), the queries of a class beside each other.
        logit_scale: Multiplies the cosines first.
        sizes: Number of queries of each class.

    Returns:
        (C, H, W), probabilities in 0..1.
    """
    return best_of_class((cosines * logit_scale).softmax(dim=0), sizes)


def best_of_class(scores: Tensor, sizes: Sequence[int]) -> Tensor:
    """The largest score of each class's queries: (Q, H, W) to (C, H, W); `sizes` as in `class_scores`."""
    if len(sizes) == len(scores):
        return scores
    return torch.stack([queries.amax(dim=0) for queries in scores.split(list(sizes))])


def suppress_small_classes(scores: Tensor, area_thd: float, background_index: int) -> Tensor:
    """Set the scores of classes to 0 that cover too little of the predicted foreground.

    A class stays where its pixels are more than `area_thd` of the pixels of all foreground classes
    together; the background always stays.

    Args:
        scores: (C, H, W).
        area_thd: Share of the foreground, 0..1.
        background_index: The class that is no foreground.
    """
    counts = scores.argmax(dim=0).flatten().bincount(minlength=len(scores))  # (C,), int64
    keep = large_classes(counts, area_thd, background_index)
    return scores * keep.to(scores.dtype)[:, None, None]


def large_classes(counts: Tensor, area_thd: float, background_index: int) -> Tensor:
    """Which classes stay: (C,) of bool, from their numbers of pixels (C,), int64; see `suppress_small_classes`."""
    counts = counts.clone()
    counts[background_index] = 0
    keep = counts > area_thd * counts.sum().double()
    keep[background_index] = True
    return keep


def predict_labels(scores: Tensor, prob_thd: float | None, background_index: int | None) -> Tensor:
    """The best class of each pixel; pixels whose best score is below `prob_thd` become background.

    Args:
        scores: (C, H, W).
        prob_thd: Probability in 0..1; 0 or None for no threshold.
        background_index: The class that unsure pixels get.

    Returns:
        (H, W), int64.
    """
    best, labels = scores.max(dim=0)
    if prob_thd:
        labels[best < prob_thd] = background_index
    return labels
