"""Cutting images into the patches that a Vision Transformer embeds."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def embed_patches(images: Tensor, weight: Tensor, bias: Tensor | None = None) -> tuple[Tensor, tuple[int, int]]:
    """The patch embedding of images, as a product of matrices: convolutions on GPUs would silently round to TF32.

    Args:
        images: (B, 3, H, W). Sides that are not a multiple of the patch are cut off at the end.
        weight: (width, 3, height, width of a patch), of a convolution whose stride is its kernel.
        bias: (width,), or None.

    Returns:
        (B, h * w, width), rows first, and the grid (h, w).
    """
    height, width = weight.shape[-2:]
    grid = (images.shape[-2] // height, images.shape[-1] // width)
    x = images[..., : grid[0] * height, : grid[1] * width].to(weight.dtype)
    x = x.unflatten(3, (grid[1], width)).unflatten(2, (grid[0], height))  # (B, 3, h, height, w, width)
    x = x.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)  # (B, h * w, 3 * height * width)
    return F.linear(x, weight.flatten(1), bias), grid
