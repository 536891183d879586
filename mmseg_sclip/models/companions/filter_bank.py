"""A companion without weights, for the demo and for tests: colours and edges around each place of the image."""

from __future__ import annotations

from typing import Annotated

import torch
from mmseg.registry import MODELS
from torch import Tensor
from torch.nn import functional as F

from ...rules import AtLeast
from .base import Companion, Features, Relations

_CELLS, _SHARPNESS = 64, 20.0  # of `relations`
_LEAST = 0.05  # of a standard deviation, so that a flat window has features near zero


@MODELS.register_module()
class FilterBank(Companion):
    """Colours and their edges around each cell: enough to tell the painted materials of the demo apart.

    Each is measured from its mean over the window, in its standard deviations there, so that cosines tell cells apart
    as they do with a trained network. It stands in for a network such as DINO where none can be had. Queries, keys and
    values are the same features.

    Args:
        patch_size: Side of a cell in pixels.
        reach: Cells on each side of a cell that its features look at.
    """

    def __init__(self, patch_size: Annotated[int, AtLeast(2)] = 4, reach: Annotated[int, AtLeast(0)] = 1) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.reach = reach

    def features(self, images: Tensor) -> Features:
        """See `Companion.features`."""
        edges = [F.pad(images.diff(dim=dim).abs(), pad) for dim, pad in ((-1, (0, 1)), (-2, (0, 0, 0, 1)))]
        cells = F.avg_pool2d(torch.cat([images, *edges], dim=1), self.patch_size)  # it floors
        side = 2 * self.reach + 1
        around = F.avg_pool2d(cells, side, stride=1, padding=self.reach, count_include_pad=False)
        deviation = around - around.mean(dim=(2, 3), keepdim=True)
        scale = deviation.square().mean(dim=(2, 3), keepdim=True).sqrt() + _LEAST
        features = deviation / scale
        return Features(features, features, features, features)

    def relations(self, image: Tensor) -> Relations:
        """See `Companion.relations`: one head, whose cells attend to cells with like features; at most 64 on a side."""
        device = image.device
        mean, std = (torch.tensor(values, device=device).view(3, 1, 1) for values in (self.mean, self.std))
        pixels = ((image - mean) / std)[None]
        most = _CELLS * self.patch_size
        size = [max(self.patch_size, round(side * min(1, most / max(image.shape[1:])))) for side in image.shape[1:]]
        features = self.features(F.interpolate(pixels, size, mode='bilinear', antialias=True)).map
        values = features.flatten(2).transpose(1, 2)  # (1, n, C)
        unit = F.normalize(values[0], dim=1)
        grid = (features.shape[2], features.shape[3])
        return Relations(grid, values, iter([(_SHARPNESS * unit @ unit.T).softmax(dim=1)]))
