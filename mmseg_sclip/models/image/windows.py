"""Sliding windows over several images, many windows in one forward."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

Span = tuple[int, int]
Window = tuple[int, int, int, int]


@dataclass(frozen=True)
class Place:
    """Where a window lies.

    Attributes:
        image: The number of its image in the batch.
        rows: (top, bottom) in pixels of the network's input.
        columns: (left, right) in pixels.
        padding: Pixels of zeros around the window: ((above, below), (left, right)).
    """

    image: int
    rows: Span
    columns: Span
    padding: tuple[Span, Span] = ((0, 0), (0, 0))


@dataclass
class PatchScores:
    """Scores of patches.

    Attributes:
        scores: (B, K, rows, columns) of windows, or those of an image side by side; see `score_windows`.
        seen: What each refinement keeps of each window, (B, ...), or None; see `Refinement.look`.
        mix: (B, K, P), where the scores of P phrases are sums of the K maps with these weights, which differ from
            window to window; None where the maps are those of the phrases. Of an image the windows stand in B.
    """

    scores: Tensor
    seen: tuple[Tensor | None, ...] = ()
    mix: Tensor | None = None


@dataclass(frozen=True)
class WindowGrid:
    """The windows of an image: every span of rows with every span of columns.

    Attributes:
        rows: (top, bottom) in pixels, from top to bottom.
        columns: (left, right) in pixels, from left to right.
        multiple: Sides of a window are padded to multiples of this many pixels.
    """

    rows: tuple[Span, ...]
    columns: tuple[Span, ...]
    multiple: int = 1

    @classmethod
    def cut(
        cls, height: int, width: int, crop_size: Sequence[int], stride: Sequence[int], multiple: int = 1
    ) -> WindowGrid:
        """Windows as MMSeg cuts them.

        The last window of a row or column is moved back into the image; an image smaller than the crop
        is one window of its own size.
        """

        def spans(side: int, crop: int, step: int) -> tuple[Span, ...]:
            beyond = max(side - crop, 0)
            starts = [min(i * step, beyond) for i in range((beyond + step - 1) // step + 1)]
            return tuple((start, min(start + crop, side)) for start in starts)

        rows, columns = spans(height, crop_size[0], stride[0]), spans(width, crop_size[1], stride[1])
        padded = any(padding(span, multiple) != (0, 0) for span in rows + columns)
        return cls(rows, columns, multiple if padded else 1)  # so that equal windows are equal

    def joined(self) -> WindowGrid:
        """One window in place of all of them, without padding of its own."""
        rows, columns = (((spans[0][0], spans[-1][1]),) for spans in (self.rows, self.columns))
        return WindowGrid(rows, columns)

    @property
    def window_size(self) -> tuple[int, int]:
        """(height, width) of every window, padding included."""
        height, width = (
            span[1] - span[0] + sum(padding(span, self.multiple)) for span in (self.rows[0], self.columns[0])
        )
        return height, width

    @property
    def windows(self) -> list[Window]:
        """(top, bottom, left, right) of each, row by row."""
        return [(*row, *column) for row in self.rows for column in self.columns]

    def places(self, image: int) -> list[Place]:
        """The places of its windows, row by row, as those of the image with this number."""
        return [
            Place(image, row, column, (padding(row, self.multiple), padding(column, self.multiple)))
            for row in self.rows
            for column in self.columns
        ]


def padding(span: Span, multiple: int) -> Span:
    """Pixels before and after a span that make its length a multiple; before it stands the smaller half."""
    missing = -(span[1] - span[0]) % multiple
    return missing // 2, missing - missing // 2


def score_windows(
    images: Sequence[Tensor],
    grids: Sequence[WindowGrid],
    window_batch: int,
    score: Callable[[Tensor, Sequence[Place]], Sequence[PatchScores]],
) -> list[list[PatchScores]]:
    """Score the windows of several images, `window_batch` in one forward.

    Args:
        images: (3, H, W) each, of any sizes.
        grids: The windows of each image.
        window_batch: Windows in one forward, over all images; windows of different sizes are not mixed.
        score: From crops (B, 3, h, w) and their places to what each of one or more methods makes of them: scores
            (B, K, rows, columns).

    Returns:
        For each method and each image its windows' scores side by side, (window rows x patch rows, K, window columns x
        patch columns): rows first, so that a row of pixels needs one product of matrices. What was seen is that of an
        image that is one window; of others it is left out.
    """
    places = [grid.places(index) for index, grid in enumerate(grids)]
    each: dict[tuple[int, Place], PatchScores] = {}  # of each method and window
    methods = 0
    for batch in _batches(places, window_batch):
        crops = [cut_window(images[place.image], place) for place in batch]
        for methods, scored in enumerate(score(torch.stack(crops), batch), 1):
            for i, place in enumerate(batch):
                seen = tuple(None if part is None else part[i] for part in scored.seen)
                mix = None if scored.mix is None else scored.mix[i]
                each[methods, place] = PatchScores(scored.scores[i], seen, mix)
    return [
        [side_by_side([each[method, place] for place in places[index]], grid) for index, grid in enumerate(grids)]
        for method in range(1, methods + 1)
    ]


def cut_window(image: Tensor, place: Place) -> Tensor:
    """A window (..., h, w) of an image (..., H, W), padded with zeros where its place says so."""
    window = image[..., slice(*place.rows), slice(*place.columns)]
    (top, bottom), (left, right) = place.padding
    return F.pad(window, (left, right, top, bottom)) if any((top, bottom, left, right)) else window


def _batches(places: Sequence[Sequence[Place]], window_batch: int) -> Iterator[Sequence[Place]]:
    """Places that go through the network together, all of one size."""
    by_size: dict[tuple[int, int], list[Place]] = {}
    for place in (place for of_image in places for place in of_image):
        size = (place.rows[1] - place.rows[0], place.columns[1] - place.columns[0])
        by_size.setdefault(size, []).append(place)
    for alike in by_size.values():
        for first in range(0, len(alike), window_batch):
            yield alike[first : first + window_batch]


def side_by_side(windows: Sequence[PatchScores], grid: WindowGrid) -> PatchScores:
    """Scores (K, rows, columns) of each window to (window rows * rows, K, window columns * columns)."""
    scores = torch.stack([window.scores for window in windows]).unflatten(0, (len(grid.rows), len(grid.columns)))
    mixes = [window.mix for window in windows if window.mix is not None]
    return PatchScores(
        scores.permute(0, 3, 2, 1, 4).flatten(3).flatten(0, 1),
        windows[0].seen if len(windows) == 1 else (),
        torch.stack(mixes) if mixes else None,
    )
