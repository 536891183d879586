"""Colours as LPOSS+ compares them."""

from __future__ import annotations

import torch
from torch import Tensor

_TO_XYZ = ((0.412453, 0.357580, 0.180423), (0.212671, 0.715160, 0.072169), (0.019334, 0.119193, 0.950227))
_WHITE = (0.95047, 1.0, 1.08883)  # D65


def rgb_to_lab(image: Tensor) -> Tensor:
    """CIE Lab of sRGB colours, its axes divided by (100, 128, 128).

    Args:
        image: (3, H, W), RGB in 0..1, float32.

    Returns:
        (3, H, W).
    """
    linear = torch.where(image > 0.04045, ((image + 0.055) / 1.055).clamp_min(0) ** 2.4, image / 12.92)
    white = image.new_tensor(_WHITE).view(3, 1, 1)
    xyz = torch.stack([sum(w * channel for w, channel in zip(row, linear, strict=True)) for row in _TO_XYZ]) / white
    x, y, z = torch.where(xyz > 0.008856, xyz.clamp_min(0.008856) ** (1 / 3), 7.787 * xyz + 4 / 29)
    return torch.stack([(116 * y - 16) / 100, 500 * (x - y) / 128, 200 * (y - z) / 128])
