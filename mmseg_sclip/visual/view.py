"""Which part of an image goes through the network at once, and where its patches lie in the picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ..models.image.windows import Place, Span, Window

Point = tuple[int, int]
Grid = tuple[int, int]


@dataclass(frozen=True)
class View:
    """The whole image or one window of it; sizes are (height, width) in pixels.

    Attributes:
        image: Size of the image.
        network: Size of the image as the network gets it, after the Resize of the pipeline.
        window: (top, bottom, left, right) in pixels of `network`.
        patch: Size of a patch of the tower.
        padding: Pixels of zeros around the window: ((above, below), (left, right)).
    """

    image: tuple[int, int]
    network: tuple[int, int]
    window: Window
    patch: tuple[int, int]
    padding: tuple[Span, Span] = ((0, 0), (0, 0))

    @classmethod
    def of(cls, image: tuple[int, int], network: tuple[int, int], place: Place, patch: tuple[int, int]) -> View:
        """The view of a window that lies at a place."""
        return cls(image, network, (*place.rows, *place.columns), patch, place.padding)

    @property
    def grid(self) -> Grid:
        """(h, w) in patches of the tower; pixels beyond the last whole patch are not seen."""
        rows, columns = (stop - start for start, stop in self._spans())
        return rows // self.patch[0], columns // self.patch[1]

    @property
    def is_whole(self) -> bool:
        """Whether it is the whole image."""
        return self.window == (0, self.network[0], 0, self.network[1])

    def token(self, point: Point, grid: Grid | None = None) -> int:
        """The patch or cell that sees a pixel, counted row by row; beyond the last whole patch it is the last.

        Args:
            point: (x, y) in pixels of the image, inside the window.
            grid: (h, w) of cells; None for the patches of the tower.
        """
        grid = self.grid if grid is None else grid
        row, column = (
            min(max(int((place - start) // side), 0), count - 1)
            for place, (start, side), count in zip(
                _to_network(point, self.image, self.network), self._cells(grid), grid, strict=True
            )
        )
        return row * grid[1] + column

    def enlarge(self, weights: Tensor) -> Tensor:
        """One value per patch or cell to one value per pixel, bilinear between their centres.

        Args:
            weights: (h, w), on the grid of the tower or on another one.

        Returns:
            (H, W) float32 at the size of the image, nan outside the window.
        """
        places = [
            (2 * (at - start) / side / count - 1).float()  # grid_sample's -1 to 1
            for at, (start, side), count in zip(
                self._pixel_centres(), self._cells(tuple(weights.shape)), weights.shape, strict=True
            )
        ]
        sampling = torch.stack(torch.meshgrid(*places, indexing='ij')[::-1], dim=-1)  # (H, W, 2), x first
        values = F.grid_sample(
            weights.float().cpu()[None, None],
            sampling[None],
            mode='bilinear',
            padding_mode='border',
            align_corners=False,
        )[0, 0]
        return values.masked_fill_(~self.inside(), float('nan'))

    def inside(self) -> Tensor:
        """(H, W) bool: the pixels of the image that lie in the window."""
        top, bottom, left, right = self.window
        y, x = self._pixel_centres()
        return ((y >= top) & (y < bottom))[:, None] & ((x >= left) & (x < right))

    def _spans(self) -> tuple[Span, Span]:
        """(start, stop) of the rows and of the columns that the network sees, padding included."""
        rows, columns = (
            (start - before, stop + after)
            for start, stop, (before, after) in zip(self.window[::2], self.window[1::2], self.padding, strict=True)
        )
        return rows, columns

    def _cells(self, grid: Sequence[int]) -> list[tuple[float, float]]:
        """Of rows and columns: where the first cell of a grid begins, and its side.

        Patches of the tower have their own size; other cells share the window evenly, as their scores do.
        """
        return [
            (start, side if tuple(grid) == self.grid else (stop - start) / count)
            for (start, stop), side, count in zip(self._spans(), self.patch, grid, strict=True)
        ]

    def _pixel_centres(self) -> list[Tensor]:
        """The y of every row of pixels, (H,), and the x of every column, (W,), in pixels of the network's input."""
        return [
            (torch.arange(size, dtype=torch.float64) + 0.5) * whole / size
            for size, whole in zip(self.image, self.network, strict=True)
        ]


def nearest_window(windows: Sequence[Window], point: Point, image: tuple[int, int], network: tuple[int, int]) -> int:
    """The number of the window whose centre is nearest to a point; of equals the first.

    Args:
        windows: In pixels of the network's input.
        point: (x, y) in pixels of the image.
        image: Size of the image.
        network: Size of the network's input.
    """
    y, x = _to_network(point, image, network)

    def distance(number: int) -> float:
        top, bottom, left, right = windows[number]
        return ((top + bottom) / 2 - y) ** 2 + ((left + right) / 2 - x) ** 2

    return min(range(len(windows)), key=distance)


def _to_network(point: Point, image: tuple[int, int], network: tuple[int, int]) -> tuple[float, float]:
    """(y, x) of a pixel's centre in pixels of the network's input."""
    x, y = point
    return (y + 0.5) * network[0] / image[0], (x + 0.5) * network[1] / image[1]
