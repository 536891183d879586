"""PEARL's text-aware label propagation (CVPR 2026)."""

from __future__ import annotations

from typing import Annotated

import torch
from mmseg.registry import MODELS
from torch import Tensor
from torch.nn import functional as F

from ....rules import AtLeast
from ...precision import without_autocast
from ...refinements.base import COSINES, ImageView, Refinement

_STEPS = 25  # of conjugate gradient; it has not converged by then, so their number is part of the method
_GREY = (0.299, 0.587, 0.114)


@MODELS.register_module()
class TextLabelPropagation(Refinement):
    """Let unsure pixels take over the cosines of their neighbours, unless an edge of the image lies in between.

    It works on any method's cosines. Pixels are pooled first, so that its cost does not grow with the image.

    Args:
        grid: Rows and columns of the pooled grid, about: a side is divided by this number, and the quotient rounded is
            the side of the pixels that are pooled. PEARL takes 224 for Cityscapes.
        text: Raise the confidence of pixels, and the ties between neighbours, whose phrases are likely and unlike all
            others. Off, cosines and image alone count.
    """

    stage = COSINES

    def __init__(self, grid: Annotated[int, AtLeast(1)] = 80, text: bool = True) -> None:
        super().__init__()
        self.grid = grid
        self.text = text

    def refine(self, scores: Tensor, view: ImageView) -> Tensor:
        """Refine the cosines (P, H, W) of the distinct phrases."""
        bank = view.head.score_bank(scores.device) if self.text else None
        queries = view.head.phrase_of_query
        counts = torch.ones(len(scores)) if queries is None else queries.bincount(minlength=len(scores))
        return propagate(scores, view.image, bank, counts.to(scores), self.grid)


@torch.no_grad()
def propagate(cosines: Tensor, image: Tensor, bank: Tensor | None, counts: Tensor, grid: int) -> Tensor:
    """Solve (c + L) F = c z on the pooled grid, roughly, for F: where c is small, neighbours decide.

    z are the pooled cosines, c the confidence of a pixel, and L the Laplacian of the graph that ties each pixel to its
    four neighbours. Repeated queries are worked on once, with their number as a weight.

    Args:
        cosines: (P, H, W), of the distinct phrases; not changed.
        image: (3, H, W), normalised, RGB.
        bank: (P, D), unit norm; None for the variant without text.
        counts: (P,), for how many queries each phrase stands.
        grid: As in `TextLabelPropagation`.

    Returns:
        (P, H, W), float32, or float64 for such cosines.
    """
    with without_autocast(cosines.device):
        dtype = torch.promote_types(cosines.dtype, torch.float32)
        cosines, image, counts = (x.to(cosines.device, dtype) for x in (cosines, image, counts))
        size = cosines.shape[1:]
        steps = [max(1, round(side / grid)) for side in size]  # Python's round, half to even, as the official code
        z, image = (F.avg_pool2d(x, steps, steps) for x in (cosines, image))
        agreement = None if bank is None else counts * self_similarity(bank.to(cosines), counts)
        probabilities = (z + counts.log()[:, None, None]).softmax(dim=0) / counts[:, None, None]
        spread = solve(z, confidence(probabilities, agreement), *edge_weights(image, probabilities, agreement), counts)
        if steps == [1, 1]:
            return spread
        return F.interpolate(spread[None], size, mode='bilinear', align_corners=False)[0]


def self_similarity(bank: Tensor, counts: Tensor) -> Tensor:
    """The diagonal of PEARL's text matrix: rows of softmax(T T^T / 0.5) + 10 I, divided by their sum.

    Args:
        bank: (P, D), unit norm.
        counts: (P,), for how many queries each phrase stands.

    Returns:
        (P,): large for phrases that are unlike the others.
    """
    rows = (bank @ bank.T / 0.5 + counts.log()).softmax(dim=1)
    return (rows.diagonal() / counts + 10) / (11 + 1e-6)


def confidence(probabilities: Tensor, agreement: Tensor | None) -> Tensor:
    """How much a pixel keeps of its own cosines, (h, w), from the probabilities (P, h, w) of its phrases.

    Args:
        probabilities: Of each phrase as one query.
        agreement: (P,), `self_similarity` times the number of queries; None for the variant without text.
    """
    sure = probabilities.amax(dim=0).clamp_min(0.05).square()
    return sure if agreement is None else sure * (1 + _agree(probabilities, probabilities, agreement))


def edge_weights(image: Tensor, probabilities: Tensor, agreement: Tensor | None) -> tuple[Tensor, Tensor]:
    """How strongly neighbours are tied: (h, w - 1) from left to right, and (h - 1, w) from top to bottom.

    Args:
        image: (3, h, w), normalised, RGB.
        probabilities: As in `confidence`.
        agreement: As in `confidence`.
    """
    grey = torch.einsum('chw,c->hw', image, image.new_tensor(_GREY))
    weights = []
    for dim in (-1, -2):
        length = grey.shape[dim] - 1
        difference = grey.diff(dim=dim).abs()
        weight = (-5 * difference / (difference.mean() + 1e-6)).exp()
        if agreement is not None:
            first, second = (probabilities.narrow(dim, start, length) for start in (0, 1))
            weight = weight * (1 + _agree(first, second, agreement))
        weights.append(weight.clamp(0, 1))
    return weights[0], weights[1]


def _agree(first: Tensor, second: Tensor, agreement: Tensor) -> Tensor:
    """(h, w) from probabilities (P, h, w) of two pixels each, in 0..1."""
    return torch.einsum('phw,phw,p->hw', first, second, agreement).clamp(0, 1)


def solve(z: Tensor, c: Tensor, across: Tensor, down: Tensor, counts: Tensor) -> Tensor:
    """25 steps of conjugate gradient from F = z, whose two scalars are those of all classes and pixels together.

    Args:
        z: (P, h, w), pooled cosines.
        c: (h, w), of `confidence`.
        across: (h, w - 1), of `edge_weights`.
        down: (h - 1, w), of `edge_weights`.
        counts: (P,), for how many queries each phrase stands.

    Returns:
        (P, h, w).
    """
    degree = F.pad(across, (0, 1)) + F.pad(across, (1, 0)) + F.pad(down, (0, 0, 0, 1)) + F.pad(down, (0, 0, 1, 0))

    product, scratch = torch.empty_like(z), torch.empty_like(z)  # memory that is used again in every step

    def times_matrix(x: Tensor) -> Tensor:
        torch.mul(x, c + degree, out=product)
        product[..., 1:].addcmul_(across, x[..., :-1], value=-1)
        product[..., :-1].addcmul_(across, x[..., 1:], value=-1)
        product[..., 1:, :].addcmul_(down, x[..., :-1, :], value=-1)
        product[..., :-1, :].addcmul_(down, x[..., 1:, :], value=-1)
        return product

    def dot(x: Tensor, y: Tensor) -> Tensor:
        return torch.mul(x, y, out=scratch).sum(dim=(1, 2)) @ counts

    spread = z.clone()
    residual = c * z - times_matrix(z)
    direction = residual.clone()
    square = dot(residual, residual)
    for _ in range(_STEPS):
        length = square / (dot(direction, times_matrix(direction)) + 1e-12)
        spread.addcmul_(length, direction)
        residual.addcmul_(-length, product)
        before, square = square, dot(residual, residual)
        torch.addcmul(residual, square / (before + 1e-12), direction, out=direction)
    return spread
