"""Attention that prefers neighbours on the patch grid (NACLIP, "Pay Attention to Your Neighbours", WACV 2025)."""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated

import torch
from mmseg.registry import MODELS
from torch import Tensor
from torch.nn import functional as F

from ...rules import Positive
from ..attention.base import Attention, ProductAttention
from ..record import BlockInput


@lru_cache(maxsize=8)
def gaussian_prior(
    grid: tuple[int, int], prefix: int, std: float, device: torch.device, dtype: torch.dtype = torch.float32
) -> Tensor:
    """exp(-d^2 / (2 std^2)) of the distance d of two patches: 1 for a patch with itself, 0 for the class token.

    A Gaussian of two coordinates is the product of two Gaussians of one. The matrices are kept for the sizes that were
    used last, so they must not be changed in place.

    Args:
        grid: (h, w) in patches.
        prefix: Tokens in front of the patches; their rows and columns are 0.
        std: Standard deviation in patches.
        device: Of the result.
        dtype: Of the result.

    Returns:
        (N, N), N = prefix + h * w.
    """
    with torch.inference_mode(False):  # one that was made in inference mode could not be used in a training
        rows, columns = (_gaussian(side, std) for side in grid)
        prior = F.pad(torch.kron(rows, columns), (prefix, 0, prefix, 0))
        return prior.to(device, dtype)


def _gaussian(side: int, std: float) -> Tensor:
    """(side, side), float64, of the places on one axis."""
    places = torch.arange(side, dtype=torch.float64, device='cpu')
    return ((places[:, None] - places).square() / (-2 * std**2)).exp()


class GaussianPrior(Attention):
    """An attention whose logits get the Gaussian of the distance on the patch grid.

    Args:
        std: Standard deviation of the Gaussian in patches.
    """

    def __init__(self, std: Annotated[float, Positive] = 5.0) -> None:
        super().__init__()
        self.std = float(std)

    def gaussian(self, b: BlockInput) -> Tensor:
        """(N, N), at least float32; not to be changed in place."""
        return gaussian_prior(
            tuple(b.grid), b.prefix, self.std, b.q.device, torch.promote_types(b.q.dtype, torch.float32)
        )


@MODELS.register_module()
class NeighbourAttention(GaussianPrior, ProductAttention):
    """softmax(s k k^T + w), w the Gaussian of the distance of two patches (NACLIP, section 3).

    NACLIP uses it in a last block without residual and feed-forward part. The class token attends and is attended to
    by its keys alone. Without w this is `CorrelativeSelfAttention(projections='k')`.

    Args:
        std: Standard deviation of the Gaussian in patches.
    """

    def pairs(self, b: BlockInput) -> list[tuple[Tensor, Tensor, float]]:
        """Keys with themselves."""
        return [(b.k, b.k, b.scale)]

    def prior(self, b: BlockInput) -> Tensor:
        """(N, N), the Gaussian."""
        return self.gaussian(b)


@MODELS.register_module()
class NeighbourPriorAttention(GaussianPrior):
    """The Gaussian of NACLIP alone, as strong as the image's keys and queries are long: softmax(m w).

    m is s times the mean of |q| |k| over all heads, queries and keys of an image. The map is the same for all heads.

    Args:
        std: Standard deviation of the Gaussian in patches.
    """

    def terms(self, b: BlockInput) -> list[Tensor]:
        """One term (B, 1, N, N)."""
        lengths = [x.float().norm(dim=-1).mean(dim=-1) for x in (b.q, b.k)]  # (B, heads); the mean of the products
        strength = b.scale * (lengths[0] * lengths[1]).mean(dim=1)  # of all pairs is the product of the means
        return [strength[:, None, None, None] * self.gaussian(b)]
