"""Label grids: the phrase that each patch of a window is found to show, and which patches belong together by it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ...precision import without_autocast
from ...refinements.pamr import pamr_neighbours, propagate

_PIXELS, _QUERIES = 2**19, 32  # at once in `refined_labels`


@torch.no_grad()
def refined_labels(
    scores: Tensor, images: Tensor, logit_scale: float, threshold: float, steps: int, dilations: Sequence[int]
) -> Tensor:
    """The best query of each pixel, from scores that are enlarged and refined by PAMR.

    Args:
        scores: (B, Q, h, w), cosines.
        images: (B, 3, H, W), the normalised windows.
        logit_scale: Multiplies the refined cosines before the softmax over queries.
        threshold: Pixels whose highest probability is below it get the label 0.
        steps: Of PAMR; 0 for none.
        dilations: Of PAMR, in pixels.

    Returns:
        (B, H, W), int64, from 0 to Q - 1.
    """
    windows = max(1, _PIXELS // images[0, 0].numel())
    labels = []
    with without_autocast(images.device):
        for some, image in zip(scores.float().split(windows), images.split(windows), strict=True):
            best, probability = _best(_refined(some, image, steps, dilations), logit_scale)
            labels.append(best.masked_fill_(probability < threshold, 0).view(-1, *image.shape[2:]))
    return torch.cat(labels)


def _refined(scores: Tensor, images: Tensor, steps: int, dilations: Sequence[int]) -> Iterator[Tensor]:
    """Scores (B, Q, h, w) at every pixel, refined: (B * H * W, queries) for some queries after the other."""
    neighbours = pamr_neighbours(images, dilations) if steps else None
    for part in scores.split(_QUERIES, dim=1):
        part = part.contiguous(memory_format=torch.channels_last)
        maps = F.interpolate(part, images.shape[2:], mode='bilinear', align_corners=False)
        values = maps.permute(0, 2, 3, 1).flatten(0, 2)  # (B * H * W, queries)
        yield values if neighbours is None else propagate(values, *neighbours, steps)


def _best(parts: Iterable[Tensor], logit_scale: float) -> tuple[Tensor, Tensor]:
    """The best of all queries (P,), the first of equal ones, and its probability, from scores (P, queries) in parts.

    The parts are used up.
    """
    best: Any = -torch.inf
    label: Any = 0
    total: Any = 0
    first = 0
    for part in parts:
        logits = part.mul_(logit_scale)
        top, index = logits.max(dim=1)
        label = torch.where(top > best, index + first, label)
        highest = top.clamp(min=best)
        # The sum of exp(logit - highest) over the queries so far.
        total = total * (best - highest).exp() + logits.sub_(highest[:, None]).exp_().sum(dim=1)
        best = highest
        first += part.shape[1]
    return label, 1 / total


def patch_labels(labels: Tensor, grid: tuple[int, int], patch_size: tuple[int, int], count: int) -> Tensor:
    """The most frequent label of each patch, the smallest of equally frequent ones.

    Args:
        labels: (B, H, W), int64; pixels beyond the last whole patch do not count.
        grid: (h, w) in patches.
        patch_size: (height, width) in pixels.
        count: Labels go from 0 to count - 1.

    Returns:
        (B, h, w), int64.
    """
    (rows, columns), (height, width) = grid, patch_size
    labels = labels[:, : rows * height, : columns * width].unflatten(2, (columns, width)).unflatten(1, (rows, height))
    labels = labels.permute(0, 1, 3, 2, 4).flatten(3)  # (B, h, w, pixels of a patch)
    ones = torch.ones((), dtype=torch.int32, device=labels.device).expand_as(labels)
    counts = torch.zeros(*labels.shape[:3], count, dtype=torch.int32, device=labels.device)
    return counts.scatter_add_(3, labels, ones).argmax(dim=3)


def same_label(labels: Tensor, decay: bool = True) -> Tensor:
    """Which patches have the same label, less sure where something else lies between them.

    A pair whose straight segment leaves the label counts exp(-d / d_max), with d the Chebyshev distance of the two
    patches and d_max that of the grid's corners. The segment from a to b is sampled at a + i (b - a) / d_max, rounded
    to patches, for i from 0 to d: as in ResCLIP's code, only the beginning of a short segment is looked at.

    Args:
        labels: (B, h, w).
        decay: Whether segments are looked at.

    Returns:
        (B, h * w, h * w), float32, in 0..1: rows are the a, columns the b.
    """
    grid = labels.shape[1:]
    labels = labels.flatten(1).int()  # (B, n)
    same = labels[:, :, None] == labels[:, None]  # (B, n, n)
    longest = max(grid) - 1
    if not decay or not longest:
        return same.float()
    places = [torch.arange(side, device=labels.device, dtype=torch.float32) for side in grid]
    ways = [place[None] - place[:, None] for place in places]  # (h, h) and (w, w), from the first to the second
    down, right = (way.abs() for way in ways)
    distance = _pairs(down, right, torch.maximum)  # (n, n)
    leaves = torch.zeros_like(same)
    for i, part in enumerate(torch.linspace(0, 1, longest + 1, device=labels.device)):
        row, column = ((place[:, None] + part * way).round().int() for place, way in zip(places, ways, strict=True))
        there = labels.index_select(1, _pairs(row * grid[1], column, torch.add).flatten()).view_as(same)
        leaves |= (there != labels[:, :, None]) & (distance >= i)
    return torch.where(leaves, same * (-distance / longest).exp(), same.float())


def _pairs(rows: Tensor, columns: Tensor, combine: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """(n, n) of all pairs of patches, from what pairs of rows (h, h) and pairs of columns (w, w) have."""
    return combine(rows[:, None, :, None], columns[None, :, None]).flatten(2).flatten(0, 1)


def blur_rows(matrix: Tensor, std: float) -> Tensor:
    """Blur each row of (B, n, n) with a Gaussian of the index, cut off at 3 std; beyond the ends there is nothing.

    The kernel has min(n, int(6 std + 1)) taps, one more where that is even, and sums to 1.
    """
    count = matrix.shape[-1]
    reach = min(count, int(6 * std + 1)) // 2
    places = torch.arange(count, device=matrix.device)
    away = (places[:, None] - places).abs()  # (n, n)
    kernel = (-0.5 * (torch.arange(-reach, reach + 1, device=matrix.device) / std).square()).exp()
    band = (-0.5 * (away / std).square()).exp() / kernel.sum()
    # A product of matrices, since convolutions on GPUs would silently round to TF32.
    with without_autocast(matrix.device):
        return matrix @ band.masked_fill_(away > reach, 0.0)
