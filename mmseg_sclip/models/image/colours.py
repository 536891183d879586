"""The colours of images as they were before they were normalised."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def original_colours(images: Tensor, normaliser: Any) -> Tensor:
    """Images (..., 3, H, W) in 0..255, float32; those of 8 bits to the last bit.

    Args:
        images: Normalised.
        normaliser: What has the `mean` and `std` that they were normalised with.
    """
    return _colours(images, normaliser.mean, normaliser.std, 1e-3)


def official_colours(images: Tensor, normaliser: Any, tower: Any) -> Tensor:
    """The colours (..., 3, H, W) in 0..255 that official codes show to a second network, float32.

    They normalise images with CLIP's mean and std in thousandths, and undo that with all digits of both, which is up to
    0.001 grey levels off. Pairs of patches that lie within 1e-5 of a threshold fall on their side only with the same
    digits. Where images were normalised with other values, or with all digits, these are the original colours.

    Args:
        images: Normalised.
        normaliser: What has the `mean` and `std` that they were normalised with.
        tower: What has those of CLIP with all digits, as `unrounded`.
    """
    mean, std = tower.unrounded
    given, clips = (
        torch.stack([torch.as_tensor(values).flatten().cpu() for values in pair])
        for pair in ((normaliser.mean, normaliser.std), (mean, std))
    )
    if (given - clips).abs().max() < 1e-2:  # but for their last digits
        return _colours(images, mean, std, 4e-5)
    return original_colours(images, normaliser)


def _colours(images: Tensor, mean: Any, std: Any, tolerance: float) -> Tensor:
    mean, std = (torch.as_tensor(values).to(images.device).view(3, 1, 1) for values in (mean, std))
    colours = images.float() * std + mean
    whole = colours.round()
    return torch.where((colours - whole).abs() < tolerance, whole, colours)  # a difference that rounding has made
