"""Trident's affinity of SAM's cells: the attention of those whose values are alike (ICCV 2025, section 3.3)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ...companions import Relations


def thresholds(unit: Tensor, factor: float, most: float, negative: float | None) -> Tensor:
    """How like another cell must be for each cell to look at it: (n,), of cosines.

    Args:
        unit: (heads, n, head_dim), unit values.
        factor: Multiplies the mean cosine of a cell with all cells, itself included, over all heads.
        most: The largest threshold.
        negative: Taken in place of a negative threshold; None leaves it.
    """
    mean = (unit @ unit.mean(dim=1)[..., None])[..., 0].mean(dim=0)  # no matrix of cosines is needed for it
    found = (factor * mean).clamp(max=most)
    return found if negative is None else found.where(found >= 0, torch.full_like(found, negative))


def segment_affinity(relations: Relations, factor: float, most: float, negative: float | None) -> Tensor:
    """How much each cell takes of every other one: (n, n), rows sum to 1.

    A head's attention is kept where the cosine of its values is above the threshold of the row; heads are averaged, and
    the rows normalised. One map is held beside the sum.

    Args:
        relations: Of the image; its maps are used up.
        factor: See `thresholds`.
        most: See `thresholds`.
        negative: See `thresholds`.
    """
    unit = F.normalize(relations.values.float(), dim=-1)
    limits = thresholds(unit, factor, most, negative)[:, None]
    total = None
    for own, attention in zip(unit, relations.attention, strict=True):
        kept = attention.float().mul_(own @ own.T > limits)
        total = kept if total is None else total.add_(kept)
    assert total is not None
    sums = total.sum(dim=1, keepdim=True)
    alone = sums[:, 0] == 0  # where nothing is kept, such as values of zero, a cell keeps its own token
    total.diagonal()[alone], sums[alone] = 1.0, 1.0
    return total.div_(sums)
