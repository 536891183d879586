"""Pixel-adaptive mask refinement (Araslanov and Roth, "Single-Stage Semantic Segmentation from Image Labels")."""

from collections.abc import Iterator, Sequence
from typing import Annotated

import torch
from mmseg.registry import MODELS
from torch import Tensor
from torch.nn import functional as F

from ...rules import AtLeast, NotEmpty
from ..precision import without_autocast
from .base import COSINES, Refinement

_SHARPNESS = 0.1  # of the standard deviation, in the denominator of an affinity
_OFFSETS = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if (dy, dx) != (0, 0)]


@MODELS.register_module()
class PAMR(Refinement):
    """Pixel-adaptive mask refinement of the raw cosines, with the settings of SCLIP's family.

    Args:
        steps: Iterations; 0 changes nothing.
        dilations: Distances of the neighbours in pixels.
    """

    stage = COSINES

    def __init__(
        self,
        steps: Annotated[int, AtLeast(0)] = 10,
        dilations: Annotated[Sequence[Annotated[int, AtLeast(1)]], NotEmpty] = (8, 16),
    ) -> None:
        super().__init__()
        self.steps = steps
        self.dilations = tuple(dilations)

    def forward(self, scores: Tensor, image: Tensor) -> Tensor:
        """Refine cosines (Q, H, W)."""
        return pamr(image, scores, self.steps, self.dilations) if self.steps else scores


@torch.no_grad()
def pamr(image: Tensor, masks: Tensor, steps: int, dilations: Sequence[int], chunk: int = 32) -> Tensor:
    """Let each pixel take the average of its neighbours, weighted by how alike they look, `steps` times.

    The neighbours of a pixel p are the eight around it at each dilation, the border repeated. Their
    affinity is the mean over channels of -|x(p) - x(neighbour)| / (1e-8 + 0.1 sigma(p)), with sigma the
    unbiased standard deviation over all stencils together; a softmax over neighbours makes weights.
    The pixel itself has no weight.

    Args:
        image: (K, H, W); changes of scale and offset of a channel make no difference.
        masks: (Q, H, W), refined independently of each other; not changed.
        steps: Iterations.
        dilations: In pixels.
        chunk: Masks refined at once; bounds the memory and does not change the result.

    Returns:
        (Q, H, W), float32.
    """
    with without_autocast(image.device):
        neighbours, weights = pamr_neighbours(image[None], dilations)
        refined = torch.empty(masks.shape, device=masks.device)
        for part, result in zip(masks.split(chunk), refined.split(chunk), strict=True):
            values = part.flatten(1).T.float()  # (H * W, chunk)
            result.copy_(propagate(values, neighbours, weights, steps).T.unflatten(1, image.shape[1:]))
        return refined


def pamr_neighbours(images: Tensor, dilations: Sequence[int]) -> tuple[Tensor, Tensor]:
    """The neighbours of each pixel, and how much it takes from them; see `pamr`.

    Args:
        images: (B, K, H, W), which do not look at each other.
        dilations: In pixels.

    Returns:
        Places of the neighbours among all pixels, image by image and row by row, and their weights, which sum to 1:
        (B * H * W, neighbours), int32 and float32.
    """
    batch, _, height, width = images.shape
    weights = _affinities(images.float(), dilations).flatten(1).T.softmax(dim=1)
    places = torch.arange(batch * height * width, dtype=torch.float64, device=images.device)
    places = places.view(batch, 1, height, width)  # in float64, since whole numbers cannot be padded
    neighbours = torch.stack([n.int() for n in _neighbours(places, dilations)]).flatten(1).T
    return neighbours.contiguous(), weights.contiguous()


def propagate(values: Tensor, neighbours: Tensor, weights: Tensor, steps: int) -> Tensor:
    """The iterations of `pamr` on pixels (P, K), float32, with what `pamr_neighbours` gives."""
    values = values.clone(memory_format=torch.contiguous_format)  # other strides take a path that rounds differently
    for _ in range(steps):
        values = F.embedding_bag(neighbours, values, mode='sum', per_sample_weights=weights)
    return values


def _affinities(images: Tensor, dilations: Sequence[int]) -> Tensor:
    """(neighbours, B, H, W): the logits of the weights, one neighbour in memory at a time."""
    total, squares = torch.zeros_like(images), torch.zeros_like(images)
    for neighbour in _neighbours(images, dilations):
        difference = neighbour - images
        total += difference
        squares.addcmul_(difference, difference)
    count = 9 * len(dilations)  # the pixel itself is in every stencil, with difference 0
    sigma = ((squares - total.square() / count).clamp_(min=0) / (count - 1)).sqrt_()
    scale = 1 / (1e-8 + _SHARPNESS * sigma)
    return torch.stack([-((n - images).abs_() * scale).mean(dim=1) for n in _neighbours(images, dilations)])


def _neighbours(x: Tensor, dilations: Sequence[int]) -> Iterator[Tensor]:
    """Views of (B, K, H, W) `x` moved to each neighbour in turn."""
    height, width = x.shape[-2:]
    for dilation in dilations:
        padded = F.pad(x, [dilation] * 4, mode='replicate')
        for dy, dx in _OFFSETS:
            top, left = dilation * (1 + dy), dilation * (1 + dx)
            yield padded[..., top : top + height, left : left + width]
