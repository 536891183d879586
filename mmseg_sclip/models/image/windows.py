"""Sliding windows over several images, many windows in one forward."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Span = tuple[int, int]
Window = tuple[int, int, int, int]


@dataclass(frozen=True)
class WindowGrid:
    """The windows of an image: every span of rows with every span of columns.

    Attributes:
        rows: (top, bottom) in pixels, from top to bottom.
        columns: (left, right) in pixels, from left to right.
    """

    rows: tuple[Span, ...]
    columns: tuple[Span, ...]

    @classmethod
    def cut(cls, height: int, width: int, crop_size: Sequence[int], stride: Sequence[int]) -> WindowGrid:
        """Windows as MMSeg cuts them.

        The last window of a row or column is moved back into the image; an image smaller than the crop
        is one window of its own size.
        """

        def spans(side: int, crop: int, step: int) -> tuple[Span, ...]:
            beyond = max(side - crop, 0)
            starts = [min(i * step, beyond) for i in range((beyond + step - 1) // step + 1)]
            return tuple((start, min(start + crop, side)) for start in starts)

        return cls(spans(height, crop_size[0], stride[0]), spans(width, crop_size[1], stride[1]))

    @property
    def windows(self) -> list[Window]:
        """(top, bottom, left, right) of each, row by row."""
        return [(*row, *column) for row in self.rows for column in self.columns]


def score_windows(
    images: Sequence[Tensor],
    grids: Sequence[WindowGrid],
    window_batch: int,
    score: Callable[[Tensor], Sequence[tuple[Tensor, Tensor | None]]],
) -> list[list[tuple[Tensor, Tensor | None]]]:
    """Score the windows of several images, `window_batch` in one forward.

    Args:
        images: (3, H, W) each, of any sizes; nothing is padded.
        grids: The windows of each image.
        window_batch: Windows in one forward, over all images; windows of different sizes are not mixed.
        score: From crops (B, 3, h, w) to what each of one or more methods makes of them: patch scores (B, K, rows,
            columns), and an affinity (B, n, n) of the patches or None.

    Returns:
        For each method and each image its windows' scores side by side, (window rows x patch rows, K, window columns x
        patch columns): rows first, so that a row of pixels needs one product of matrices. Beside them the affinity
        (n, n) of an image that is one window.
    """
    by_size: dict[tuple[int, int], list[tuple[int, int, Window]]] = {}
    for index, grid in enumerate(grids):
        for place, window in enumerate(grid.windows):
            top, bottom, left, right = window
            by_size.setdefault((bottom - top, right - left), []).append((index, place, window))
    scores: dict[tuple[int, int], list[Any]] = {}  # of each method and image, in the order of its windows
    affinities: dict[tuple[int, int], Tensor] = {}
    methods = 0
    for windows in by_size.values():
        for first in range(0, len(windows), window_batch):
            batch = windows[first : first + window_batch]
            crops = [images[index][:, top:bottom, left:right] for index, _, (top, bottom, left, right) in batch]
            for methods, (scored, affinity) in enumerate(score(torch.stack(crops)), 1):
                for i, (index, place, _) in enumerate(batch):
                    each = scores.setdefault((methods, index), [None] * len(grids[index].windows))
                    each[place] = scored[i]
                    if affinity is not None and len(grids[index].windows) == 1:
                        affinities[methods, index] = affinity[i]
    return [
        [
            (_side_by_side(torch.stack(scores[method, index]), grid), affinities.get((method, index)))
            for index, grid in enumerate(grids)
        ]
        for method in range(1, methods + 1)
    ]


def _side_by_side(scores: Tensor, grid: WindowGrid) -> Tensor:
    """(windows, K, rows, columns) to (window rows * rows, K, window columns * columns)."""
    scores = scores.unflatten(0, (len(grid.rows), len(grid.columns)))
    return scores.permute(0, 3, 2, 1, 4).flatten(3).flatten(0, 1)
