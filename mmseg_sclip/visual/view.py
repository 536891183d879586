"""Which part of an image goes through the network at once, and where its patches lie in the picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ..models.image.windows import Window, WindowGrid

Point = tuple[int, int]


@dataclass(frozen=True)
class View:
    """The whole image or one window of it; sizes are (height, width) in pixels.

    Attributes:
        image: Size of the image.
        network: Size of the image as the network gets it, after the Resize of the pipeline.
        window: (top, bottom, left, right) in pixels of `network`.
        patch: Size of a patch.
    """

    image: tuple[int, int]
    network: tuple[int, int]
    window: Window
    patch: tuple[int, int]

    @property
    def grid(self) -> tuple[int, int]:
        """(h, w) in patches; pixels beyond the last whole patch are not seen."""
        top, bottom, left, right = self.window
        return (bottom - top) // self.patch[0], (right - left) // self.patch[1]

    @property
    def is_whole(self) -> bool:
        """Whether it is the whole image."""
        return self.window == (0, self.network[0], 0, self.network[1])

    def token(self, point: Point) -> int:
        """The patch that sees a pixel, counted row by row; beyond the last whole patch it is the last.

        Args:
            point: (x, y) in pixels of the image, inside the window.
        """
        row, column = (
            min(max(int((place - start) // side), 0), count - 1)
            for place, start, side, count in zip(
                self._to_network(point), self.window[::2], self.patch, self.grid, strict=True
            )
        )
        return row * self.grid[1] + column

    def enlarge(self, weights: Tensor) -> Tensor:
        """One value per patch to one value per pixel, bilinear between the centres of the patches.

        Args:
            weights: (h, w).

        Returns:
            (H, W) float32 at the size of the image, nan outside the window.
        """
        places = [
            (2 * (at - start) / side / count - 1).float()  # grid_sample's -1 to 1
            for at, start, side, count in zip(
                self._pixel_centres(), self.window[::2], self.patch, self.grid, strict=True
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

    def _pixel_centres(self) -> list[Tensor]:
        """The y of every row of pixels, (H,), and the x of every column, (W,), in pixels of the network's input."""
        return [
            (torch.arange(size, dtype=torch.float64) + 0.5) * whole / size
            for size, whole in zip(self.image, self.network, strict=True)
        ]

    def _to_network(self, point: Point) -> tuple[float, float]:
        """(y, x) of a pixel's centre in pixels of the network's input."""
        x, y = point
        return (y + 0.5) * self.network[0] / self.image[0], (x + 0.5) * self.network[1] / self.image[1]


def whole_view(image: tuple[int, int], network: tuple[int, int], patch: tuple[int, int]) -> View:
    """The view of the whole image."""
    return View(image, network, (0, network[0], 0, network[1]), patch)


def nearest_view(whole: View, point: Point, crop_size: Sequence[int], stride: Sequence[int]) -> View:
    """The window of the evaluation's grid whose centre is nearest to a point; of equals the first.

    Args:
        whole: The view of the whole image.
        point: (x, y) in pixels of the image.
        crop_size: (height, width) of the windows, in pixels of the network's input.
        stride: (height, width) between windows, in pixels of the network's input.
    """
    y, x = whole._to_network(point)

    def distance(window: Window) -> float:
        top, bottom, left, right = window
        return ((top + bottom) / 2 - y) ** 2 + ((left + right) / 2 - x) ** 2

    window = min(WindowGrid.cut(*whole.network, crop_size, stride).windows, key=distance)
    return View(whole.image, whole.network, window, whole.patch)
