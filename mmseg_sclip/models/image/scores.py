"""Scores of an image at every pixel, read in bands of rows, and labels from them.

No map of all queries at all pixels is held, unless a refinement needs one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from .geometry import Axis, axis_matrix
from .postprocess import (
    best_of_class,
    count_labels,
    large_classes,
    predict_labels,
    query_probabilities,
    suppress_classes,
)
from .windows import Span

# Numbers in one band: few enough for a processor's cache, many enough to keep a GPU busy.
_BAND_CPU, _BAND_GPU = 1 << 20, 1 << 25


class Scores(Protocol):
    """Scores of K queries or classes at every pixel.

    Attributes:
        shape: (K, H, W).
        device: Where they are computed.
    """

    shape: torch.Size
    device: torch.device

    def band(self, first: int, last: int) -> Tensor:
        """(K, rows, W): the rows of pixels from `first` to before `last`."""

    def best(self, first: int, last: int) -> Tensor:
        """(rows, W), int64: the class of the largest score in the same rows."""


def bands(scores: Scores) -> Iterator[tuple[int, int]]:
    """(first row, row behind the last) of each band."""
    number, height, width = scores.shape
    step = max(1, (_BAND_CPU if scores.device.type == 'cpu' else _BAND_GPU) // (number * width))
    for first in range(0, height, step):
        yield first, min(first + step, height)


def whole(scores: Scores) -> Tensor:
    """The whole map (K, H, W)."""
    result = torch.empty(scores.shape, device=scores.device)
    for first, last in bands(scores):
        result[:, first:last] = scores.band(first, last)
    return result


class PixelScores:
    """Cosines of an image with every query, straight from the scores of the patches.

    Each distinct phrase is computed once; a phrase that stands for several classes has the same numbers in all of
    them, to the last bit, so that ties stay ties.

    Args:
        patches: (window rows * patch rows, phrases, window columns * patch columns), see `score_windows`.
        rows: The matrix of `axis_matrix` for the first axis.
        columns: The matrix of `axis_matrix` for the last axis.
        queries: (Q,), the phrase of each query; None for every phrase once.
        affinity: Of the patches, where the decoder gives one and the image is one window.
    """

    def __init__(
        self,
        patches: Tensor,
        rows: Tensor,
        columns: Tensor,
        queries: Tensor | None = None,
        affinity: PatchAffinity | None = None,
    ) -> None:
        self.patches = patches.float().contiguous()
        self.rows = rows.to(patches.device)
        self.columns = columns.to(patches.device)
        self.queries = None if queries is None else queries.to(patches.device)
        self.affinity = affinity
        self.device = patches.device
        number = patches.shape[1] if queries is None else len(queries)
        self.shape = torch.Size((number, len(rows), len(columns)))

    def band(self, first: int, last: int) -> Tensor:
        """(Q, rows, W) of the rows of pixels from `first` to before `last`."""
        phrases = self._phrases(first, last)
        return phrases if self.queries is None else phrases[self.queries]

    def best(self, first: int, last: int) -> Tensor:
        """(rows, W), int64: the query of the largest cosine."""
        return self.band(first, last).max(dim=0)[1]  # argmax is several times slower on a CPU

    def peaks(self) -> Tensor:
        """(Q,): the largest cosine of each query at a patch of any window."""
        peaks = self.patches.amax(dim=(0, 2))
        return peaks if self.queries is None else peaks[self.queries]

    def phrases(self) -> Tensor:
        """(phrases, H, W): the whole map of each distinct phrase."""
        return self._phrases(0, self.shape[1]).contiguous()

    def _phrases(self, first: int, last: int) -> Tensor:
        length, phrases, width = self.patches.shape
        rows = self.rows[first:last] @ self.patches.view(length, phrases * width)
        pixels = (rows.view(-1, width) @ self.columns.T).view(-1, phrases, len(self.columns))
        return pixels.transpose(0, 1)


@dataclass
class PatchAffinity:
    """How the patches of an image that is one window relate to each other.

    Attributes:
        matrix: (n, n), of the decoder.
        grid: (h, w) in patches; n = h * w, rows first.
        axes: Rows and columns of the image.
        spans: The window on each axis, as for `axis_matrix`; None to go straight to the original size.
    """

    matrix: Tensor
    grid: tuple[int, int]
    axes: tuple[Axis, Axis]
    spans: tuple[tuple[Span, ...] | None, tuple[Span, ...] | None]

    def at_pixels(self, maps: Tensor) -> Tensor:
        """The number of the largest map at each pixel, (H, W) int64, of maps (K, rows, columns) over the window."""
        rows, columns = map(axis_matrix, self.axes, self.spans, maps.shape[1:])
        scores = PixelScores(maps.transpose(0, 1), rows, columns)
        return torch.cat([scores.best(*band) for band in bands(scores)])


class MapScores:
    """The same from a whole map, which a refinement has made.

    Args:
        maps: (phrases or classes, H, W).
        queries: (Q,), the phrase of each query; None for every map once.
    """

    def __init__(self, maps: Tensor, queries: Tensor | None = None) -> None:
        self.maps = maps
        self.queries = queries
        self.device = maps.device
        self.shape = torch.Size((len(maps) if queries is None else len(queries), *maps.shape[1:]))

    def band(self, first: int, last: int) -> Tensor:
        """(K, rows, W) of the rows of pixels from `first` to before `last`."""
        maps = self.maps[:, first:last]
        return maps if self.queries is None else maps[self.queries]

    def best(self, first: int, last: int) -> Tensor:
        """(rows, W), int64: the map of the largest score."""
        return self.band(first, last).max(dim=0)[1]  # argmax is several times slower on a CPU

    def peaks(self) -> Tensor:
        """(K,): the largest score of each map."""
        peaks = self.maps.amax(dim=(1, 2))
        return peaks if self.queries is None else peaks[self.queries]

    def phrases(self) -> Tensor:
        """(phrases, H, W): each map once."""
        return self.maps


class ChangedScores:
    """Scores behind a function that looks at each pixel alone.

    Args:
        scores: Of K queries.
        change: From (K, rows, W) to (K, rows, W), for any rows.
    """

    def __init__(self, scores: Scores, change: Callable[[Tensor], Tensor]) -> None:
        self.scores = scores
        self.change = change
        self.shape = scores.shape
        self.device = scores.device

    def band(self, first: int, last: int) -> Tensor:
        """(K, rows, W) of the rows of pixels from `first` to before `last`."""
        return self.change(self.scores.band(first, last))

    def best(self, first: int, last: int) -> Tensor:
        """(rows, W), int64: the query of the largest score."""
        return self.band(first, last).max(dim=0)[1]


class MeanScores:
    """The mean of several scores of the same classes and pixels.

    Args:
        each: At least one.
    """

    def __init__(self, each: Sequence[Scores]) -> None:
        self.each = tuple(each)
        self.shape = self.each[0].shape
        self.device = self.each[0].device

    def band(self, first: int, last: int) -> Tensor:
        """(K, rows, W) of the rows of pixels from `first` to before `last`."""
        total = self.each[0].band(first, last)
        for scores in self.each[1:]:
            total = total + scores.band(first, last)
        return total / len(self.each)

    def best(self, first: int, last: int) -> Tensor:
        """(rows, W), int64: the class of the largest mean."""
        return self.band(first, last).max(dim=0)[1]


class ClassScores:
    """Class scores from scores of their parts: the largest of each class.

    Args:
        parts: Cosines of the Q queries, or class scores themselves.
        sizes: Number of parts of each class, those of a class beside each other.
        logit_scale: Makes cosines to probabilities, see `query_probabilities`; None where the parts are such already.
    """

    def __init__(self, parts: Scores, sizes: Sequence[int], logit_scale: float | None = None) -> None:
        self.parts = parts
        self.sizes = tuple(sizes)
        self.logit_scale = logit_scale
        self.device = parts.device
        self.shape = torch.Size((len(self.sizes), *parts.shape[1:]))
        self.class_of_part = torch.repeat_interleave(torch.tensor(self.sizes)).to(parts.device)

    def part_band(self, first: int, last: int) -> Tensor:
        """(parts, rows, W): the probability of each part in the rows from `first` to before `last`."""
        band = self.parts.band(first, last)
        return band if self.logit_scale is None else query_probabilities(band, self.logit_scale)

    def band(self, first: int, last: int) -> Tensor:
        """(C, rows, W): class scores of the same rows."""
        return best_of_class(self.part_band(first, last), self.sizes)

    def best(self, first: int, last: int) -> Tensor:
        """(rows, W), int64: the best class is that of the best part, so no softmax is needed."""
        return self.class_of_part[self.parts.best(first, last)]

    def phrases(self) -> Tensor:
        """(C, H, W): the whole map of each class."""
        return whole(self)


def label_in_bands(
    scores: ClassScores,
    prob_thd: float | None,
    area_thd: float | None,
    background_index: int | None,
    keep_scores: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Labels from class scores: the area threshold, the best class, the probability threshold.

    Args:
        scores: Of the C classes.
        prob_thd: See `predict_labels`.
        area_thd: See `large_classes`; None for none.
        background_index: The background class.
        keep_scores: Return the class scores, after the area threshold, too.

    Returns:
        Labels (H, W), int64, and the scores (C, H, W) or None.
    """
    classes, height, width = scores.shape
    owners, keep = scores.class_of_part, None
    if area_thd is not None:
        assert background_index is not None  # settings refuse a threshold without one
        counts = torch.zeros(classes, dtype=torch.int64, device=scores.device)
        for first, last in bands(scores.parts):
            counts += count_labels(scores.best(first, last), classes)
        keep = large_classes(counts, area_thd, background_index)
    labels = torch.empty(height, width, dtype=torch.int64, device=scores.device)
    kept = torch.empty(scores.shape, device=scores.device) if keep_scores else None
    for first, last in bands(scores.parts):
        if keep is None and not prob_thd and kept is None:
            labels[first:last] = scores.best(first, last)
            continue
        parts = scores.part_band(first, last)
        parts = parts if keep is None else suppress_classes(parts, keep[owners])
        labels[first:last] = predict_labels(parts, prob_thd, background_index, owners)
        if kept is not None:
            kept[:, first:last] = best_of_class(parts, scores.sizes)
    return labels, kept
