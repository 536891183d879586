"""A companion without weights, for the demo and for tests: colours and edges around each place of the image."""

from __future__ import annotations

from typing import Annotated

import torch
from mmseg.registry import MODELS
from torch import Tensor
from torch.nn import functional as F

from ...rules import AtLeast
from .base import Companion, Features


@MODELS.register_module()
class FilterBank(Companion):
    """Colour and edges of the surroundings of each cell: enough to tell the painted materials of the demo apart.

    It stands in for a network such as DINO where none can be had. Queries, keys and values are the same features.

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
        grey = images.mean(dim=1, keepdim=True)
        edges = [F.pad(grey.diff(dim=dim).abs(), pad) for dim, pad in ((-1, (0, 1)), (-2, (0, 0, 0, 1)))]
        cells = F.avg_pool2d(torch.cat([images, *edges], dim=1), self.patch_size)  # it floors
        side = 2 * self.reach + 1
        around = F.avg_pool2d(cells, side, stride=1, padding=self.reach, count_include_pad=False)
        return Features(around, around, around, around)
