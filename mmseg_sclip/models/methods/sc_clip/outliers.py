"""Patches whose tokens stand out from all others, their repair, and averages over patches that are alike."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from ....errors import ConfigError
from ...precision import without_autocast


def local_outlier_scores(x: Tensor, neighbours: int = 30) -> Tensor:
    """How lonely each token is, in comparison with the tokens that it is nearest to.

    With d(i) the squared distance of token i to its k-th nearest neighbour, the score is the mean of d(i) / d(j) over
    the k nearest neighbours j of i. This is what SC-CLIP (arXiv 2411.15869) computes as local outlier factor: the
    reachability of its code takes the point's own distance d(i), where Breunig et al. (2000) take the neighbour's.

    Args:
        x: (B, n, C), the tokens of B images, which do not look at each other.
        neighbours: k.

    Returns:
        (B, n), float32.

    Raises:
        ConfigError: There are not more than k tokens.
    """
    if x.shape[1] <= neighbours:
        raise ConfigError(
            f'Outliers are sought by comparing each patch with its {neighbours} nearest ones, but a window has only '
            f'{x.shape[1]} patches; at least {neighbours + 1} are needed. Give a larger test_cfg.crop_size or a larger '
            'scale in the Resize step of the test pipeline, or fewer neighbours.'
        )
    with without_autocast(x.device):
        x = x.float()
        x = x - x.mean(dim=1, keepdim=True)  # what all share would cost the distances their last digits
        squares = x.square().sum(dim=-1)  # (B, n)
        distances = squares[:, :, None] + squares[:, None] - 2 * x @ x.transpose(1, 2)  # (B, n, n)
        distances.diagonal(dim1=1, dim2=2).fill_(torch.inf)
        nearest, index = distances.topk(neighbours, dim=-1, largest=False)  # (B, n, k), nearest first
        reach = nearest[..., -1].clamp(min=torch.finfo(x.dtype).tiny)  # (B, n)
        of_neighbours = reach[:, None].expand_as(distances).gather(2, index)  # (B, n, k)
        return (reach[:, :, None] / of_neighbours).mean(dim=-1)


def highest_share(scores: Tensor, share: float = 0.05) -> Tensor:
    """Which tokens have a score above the (1 - share) quantile of their image.

    The quantile is that of `torch.quantile`, as in the official codes, whose rounding differs between versions of
    torch; here it is that of torch 2.14 with all of them. Where the quantile falls on a score itself, as among the 441
    patches of a 336-pixel window, it comes out just below that score, unless the next lower one is very near: 23 scores
    are above it then, and not 22.

    Args:
        scores: (B, n).
        share: Between 0 and 1.

    Returns:
        (B, n), bool.
    """
    scores = scores.float()
    ordered = scores.sort(dim=1).values
    position = torch.tensor(1 - share).item() * (scores.shape[1] - 1)  # a float32, multiplied as float64
    below, above = math.floor(position), math.ceil(position)
    limit = torch.lerp(ordered[:, below], ordered[:, above], position - below)
    return scores > limit[:, None]


def repair_tokens(
    x: Tensor, outliers: Tensor, grid: tuple[int, int], empty: Literal['keep', 'zero'] = 'keep'
) -> Tensor:
    """Give each outlier the mean of those of its eight neighbours on the grid that are none.

    Args:
        x: (B, n, C), the patches.
        outliers: (B, n), bool.
        grid: (h, w) in patches; n = h * w, rows first.
        empty: What an outlier becomes that has outliers around it only: 'keep' leaves it as it is, 'zero' takes zero.

    Returns:
        (B, n, C), a new tensor.
    """
    good = ~outliers.unsqueeze(-1)  # (B, n, 1)
    summed = _sum_around(torch.where(good, x.float(), 0.0), grid)  # float32, since a window may hold many tokens
    count = _sum_around(good.float(), grid).round()  # (B, n, 1), 0 to 9
    mean = (summed / count.clamp(min=1)).to(x.dtype)
    return torch.where(good | (count == 0), x, mean) if empty == 'keep' else torch.where(good, x, mean)


def _sum_around(x: Tensor, grid: tuple[int, int]) -> Tensor:
    """Sums of (B, n, C) over the 3 x 3 patches around each, what lies outside left out."""
    pooled = F.avg_pool2d(x.transpose(1, 2).unflatten(2, grid), 3, stride=1, padding=1)  # (B, C, h, w), sums / 9
    return 9 * pooled.flatten(2).transpose(1, 2)


def cosine_affinity(x: Tensor, threshold: float | None = None) -> Tensor:
    """Cosines of all tokens with each other.

    Args:
        x: (B, n, C).
        threshold: Cosines below it become 0; None keeps all.

    Returns:
        (B, n, n), float32.
    """
    with without_autocast(x.device):
        x = F.normalize(x.float(), dim=-1)
        cosines = x @ x.transpose(1, 2)
    return cosines if threshold is None else cosines.masked_fill(cosines < threshold, 0.0)


def normalise_rows(affinity: Tensor) -> Tensor:
    """Rows of (B, n, n) divided by their sums plus 1e-6, so that a product with tokens averages them."""
    return affinity / (affinity.sum(dim=-1, keepdim=True) + 1e-6)
