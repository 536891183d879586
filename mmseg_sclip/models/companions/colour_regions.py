"""Regions without a network, for the demo and for tests: places that are connected and have nearly one colour."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
import torch
from mmseg.registry import MODELS
from torch import Tensor
from torch.nn import functional as F

from ...rules import AtLeast, Positive
from ..components import components
from ..record import Source
from .regions import RegionMaps, nearest, pixels_of


@MODELS.register_module()
class ColourRegions(RegionMaps):
    """Neighbouring cells whose surroundings have nearly the same mean colour are one region.

    It stands in for a mask generator such as SAM 2 where none can be had, and is no match for one: painted scenes are
    cut well, photographs badly.

    Args:
        cell: Side of a cell in pixels of the image as it was loaded.
        reach: Cells on each side of a cell that its colour is the mean of.
        tolerance: How far the colours of neighbours in a region may be apart, the root of the mean square over the
            channels, for values in 0..255.
        least: Cells of a region; smaller ones are left without a region.
    """

    def __init__(
        self,
        cell: Annotated[int, AtLeast(1)] = 4,
        reach: Annotated[int, AtLeast(0)] = 1,
        tolerance: Annotated[float, Positive] = 8.0,
        least: Annotated[int, AtLeast(1)] = 12,
    ) -> None:
        super().__init__()
        self.cell = cell
        self.reach = reach
        self.tolerance = tolerance
        self.least = least

    def regions(self, source: Source, network: Any) -> Tensor:
        """See `RegionMaps.regions`."""
        pixels = pixels_of(source, network).float()
        size = (pixels.shape[1], pixels.shape[2])
        cells = F.avg_pool2d(pixels, min(self.cell, *size))
        around = F.avg_pool2d(cells, 2 * self.reach + 1, stride=1, padding=self.reach, count_include_pad=False)
        labels = torch.from_numpy(connected_cells(around.cpu().numpy(), self.tolerance))
        large = labels.flatten().bincount() >= self.least
        numbers = torch.where(large, large.cumsum(0), 0)
        return nearest(numbers[labels], size)


def connected_cells(colours: np.ndarray, tolerance: float) -> np.ndarray:
    """The number of each cell's component, from 0 on: (h, w), of colours (channels, h, w).

    Cells above and beside each other are connected where the root mean square of their difference is at most the
    tolerance.
    """
    numbers = np.arange(colours[0].size).reshape(colours.shape[1:])
    edges = []
    for axis in (0, 1):
        first, second = (np.delete(numbers, end, axis) for end in (-1, 0))
        near = np.square(np.diff(colours, axis=axis + 1)).mean(axis=0) <= tolerance**2
        edges.append(np.stack([first[near], second[near]]))
    first, second = np.concatenate(edges, axis=1)
    return components(first, second, numbers.size).reshape(numbers.shape)
