"""LPOSS+: scores spread over the pixels of an image, along what has the same colour."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
from mmseg.registry import MODELS
from torch import Tensor
from torch.nn import functional as F

from ....rules import AtLeast, Positive
from ...image.colours import original_colours
from ...precision import without_autocast
from ...refinements.base import COSINES, ImageView, Refinement
from .colours import rgb_to_lab
from .solver import propagate

_PHRASES = 32  # that are spread at once; bounds the memory and does not change the result
_BAND_CPU, _BAND_GPU = 1 << 12, 1 << 20  # pixels whose neighbours are read at once


@MODELS.register_module()
class PixelPropagation(Refinement):
    """Pixels take over the scores of the neighbours that have their colour (LPOSS+, CVPR 2025, section 3.3).

    It works on any method's cosines, at the size of the network's input.

    Args:
        radius: Neighbours are the pixels in a square of 2 * radius + 1 pixels around a pixel.
        tau: How fast ties fade with the distance of colours in CIE Lab, whose axes are divided by (100, 128, 128).
    """

    stage = COSINES
    at_input = True

    def __init__(self, radius: Annotated[int, AtLeast(1)] = 6, tau: Annotated[float, Positive] = 0.01) -> None:
        super().__init__()
        self.radius = radius
        self.tau = tau

    @torch.no_grad()
    def refine(self, scores: Tensor, view: ImageView) -> Tensor:
        """Refine the cosines (P, H, W) of the distinct phrases."""
        with without_autocast(scores.device):
            graph = PixelGraph(
                rgb_to_lab(original_colours(view.image, view.preprocessor).clamp_(0, 255) / 255), self.radius, self.tau
            )
            spread = torch.empty(scores.shape, device=scores.device)
            for part, result in zip(scores.split(_PHRASES), spread.split(_PHRASES), strict=True):
                values = part.flatten(1).T.float().contiguous()  # (H * W, phrases)
                result.copy_(propagate(graph.times, values).T.view_as(result))
            return spread


class PixelGraph:
    """The normalised graph of the pixels of an image, each of which has ties to its neighbours.

    Args:
        lab: (3, H, W), see `rgb_to_lab`.
        radius: As in `PixelPropagation`.
        tau: As in `PixelPropagation`.

    Attributes:
        weights: (H * W, neighbours), float32, 0 for neighbours outside the image.
        log_degree: (H, W), the logarithm of the sum of a pixel's weights before they were normalised.
    """

    def __init__(self, lab: Tensor, radius: int, tau: float) -> None:
        height, width = self.size = lab.shape[1:]
        self.radius = radius
        step = max(1, (_BAND_CPU if lab.device.type == 'cpu' else _BAND_GPU) // width)
        self.bands = [(first, min(first + step, height)) for first in range(0, height, step)]
        around = range(-radius, radius + 1)
        offsets = [(dy, dx) for dy in around for dx in around if (dy, dx) != (0, 0)]
        self.neighbours = self._neighbours(offsets, lab.device)
        self.weights = lab.new_empty(height * width, len(offsets))
        self.log_degree = torch.empty_like(lab[0])
        # In logarithms, since the weights of a pixel unlike all around it can be too small for float32.
        padded = F.pad(lab, [radius] * 4, value=torch.inf)
        for first, last in self.bands:
            logits = self._logits(padded[:, first : last + 2 * radius], offsets) / tau
            self._of_band(first, last).copy_(logits.flatten(1).T)
            self.log_degree[first:last] = logits.logsumexp(dim=0)
        self.log_degree.clamp_(min=-1e30)  # of an image of one pixel
        half = self.log_degree / 2
        beyond = F.pad(half, [radius] * 4)
        for first, last in self.bands:
            weights = self._of_band(first, last)
            weights -= beyond[first : last + 2 * radius].flatten()[self.neighbours[: len(weights)]]
            weights.sub_(half[first:last].reshape(-1, 1)).exp_()

    def times(self, values: Tensor) -> Tensor:
        """W @ values, both (H * W, K)."""
        radius, number = self.radius, values.shape[1]
        padded = F.pad(values.view(*self.size, number), [0, 0, *[radius] * 4])
        product = torch.empty_like(values)
        for first, last in self.bands:
            weights = self._of_band(first, last)
            reached = padded[first : last + 2 * radius].view(-1, number)
            product[first * self.size[1] : last * self.size[1]] = F.embedding_bag(
                self.neighbours[: len(weights)], reached, mode='sum', per_sample_weights=weights
            )
        return product

    def _of_band(self, first: int, last: int) -> Tensor:
        """The weights of the rows of pixels from `first` to before `last`."""
        return self.weights[first * self.size[1] : last * self.size[1]]

    def _neighbours(self, offsets: Sequence[tuple[int, int]], device: torch.device) -> Tensor:
        """Which of the pixels that a band reaches are the neighbours of each of its pixels, the same in every band."""
        width, radius = self.size[1], self.radius
        pitch, rows = width + 2 * radius, self.bands[0][1]
        own = (
            (torch.arange(rows, device=device)[:, None] + radius) * pitch + torch.arange(width, device=device) + radius
        )
        shifts = torch.tensor([dy * pitch + dx for dy, dx in offsets], device=device)
        return (own.flatten()[:, None] + shifts).int()

    def _logits(self, reached: Tensor, offsets: Sequence[tuple[int, int]]) -> Tensor:
        """Minus the distance of a pixel's colour from those of its neighbours: (neighbours, rows, W) of a band."""
        rows, width, radius = reached.shape[1] - 2 * self.radius, self.size[1], self.radius
        own = reached[:, radius : radius + rows, radius : radius + width]
        squares = torch.empty(len(offsets), rows, width, device=reached.device)
        for square, (dy, dx) in zip(squares, offsets, strict=True):
            top, left = radius + dy, radius + dx
            difference = reached[:, top : top + rows, left : left + width] - own
            torch.sum(difference.square_(), dim=0, out=square)
        return squares.sqrt_().neg_()
