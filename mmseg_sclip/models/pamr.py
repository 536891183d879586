"""Pixel-adaptive mask refinement (Araslanov and Roth, "Single-Stage Semantic Segmentation from Image Labels")."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

_SHARPNESS = 0.1  # of the standard deviation, in the denominator of an affinity
_OFFSETS = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if (dy, dx) != (0, 0)]


@torch.no_grad()
def pamr(image: Tensor, masks: Tensor, steps: int, dilations: Sequence[int], chunk: int = 16) -> Tensor:
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
    with torch.autocast(image.device.type, enabled=False):
        weights = _affinities(image.float(), dilations).softmax(dim=0)  # (neighbours, H, W)
        refined = masks.float().clone()
        for part in refined.split(chunk):
            for _ in range(steps):
                total = torch.zeros_like(part)
                for weight, neighbour in zip(weights, _neighbours(part, dilations), strict=True):
                    total.addcmul_(weight, neighbour)
                part.copy_(total)
        return refined


def _affinities(image: Tensor, dilations: Sequence[int]) -> Tensor:
    """(neighbours, H, W): the logits of the weights, one neighbour in memory at a time."""
    total, squares = torch.zeros_like(image), torch.zeros_like(image)
    for neighbour in _neighbours(image, dilations):
        difference = neighbour - image
        total += difference
        squares.addcmul_(difference, difference)
    count = 9 * len(dilations)  # the pixel itself is in every stencil, with difference 0
    sigma = ((squares - total.square() / count).clamp_(min=0) / (count - 1)).sqrt_()
    scale = 1 / (1e-8 + _SHARPNESS * sigma)
    return torch.stack([-((n - image).abs_() * scale).mean(dim=0) for n in _neighbours(image, dilations)])


def _neighbours(x: Tensor, dilations: Sequence[int]) -> Iterator[Tensor]:
    """Views of (K, H, W) `x` moved to each neighbour in turn."""
    height, width = x.shape[-2:]
    for dilation in dilations:
        padded = F.pad(x, [dilation] * 4, mode='replicate')
        for dy, dx in _OFFSETS:
            top, left = dilation * (1 + dy), dilation * (1 + dx)
            yield padded[:, top : top + height, left : left + width]
