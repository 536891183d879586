"""Scores of an image at every pixel, read in bands of rows.

No map of all queries at all pixels is held, unless a refinement needs one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from .geometry import Placement
from .postprocess import best_of_class, query_probabilities

# Numbers in one band: few enough for a processor's cache, many enough to keep a GPU busy.
_BAND_CPU, _BAND_GPU = 1 << 20, 1 << 25


class Scores:
    """Scores of K queries or classes at every pixel of an image.

    Attributes:
        shape: (K, H, W).
        device: Where they are computed.
    """

    shape: torch.Size
    device: torch.device

    def band(self, first: int, last: int) -> Tensor:
        """(K, rows, W): the rows of pixels from `first` to before `last`."""
        raise NotImplementedError(f'{type(self).__name__} must define band(first, last).')

    def best(self, first: int, last: int) -> Tensor:
        """(rows, W), int64: the number of the largest score in the same rows."""
        return self.band(first, last).max(dim=0)[1]  # argmax is several times slower on a CPU

    def phrases(self) -> Tensor:
        """(K, H, W): the whole map of each distinct phrase, or of each class."""
        return whole(self)


def bands(scores: Scores) -> Iterator[tuple[int, int]]:
    """(first row, row after the last) of each band."""
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


class QueryScores(Scores):
    """Scores of queries, each distinct phrase of which is held once.

    A phrase that stands for several classes has the same numbers in all of them, to the last bit, so that ties stay
    ties.

    Attributes:
        queries: (Q,), the phrase of each query; None for every phrase once.
    """

    queries: Tensor | None

    def rows_of_phrases(self, first: int, last: int) -> Tensor:
        """(phrases, rows, W): the rows of pixels from `first` to before `last`."""
        raise NotImplementedError

    def peaks_of_phrases(self) -> Tensor:
        """(phrases,): the largest score of each phrase."""
        raise NotImplementedError

    def band(self, first: int, last: int) -> Tensor:
        """(Q, rows, W) of the rows of pixels from `first` to before `last`."""
        return self._of_queries(self.rows_of_phrases(first, last))

    def peaks(self) -> Tensor:
        """(Q,): the largest score of each query, at a patch of any window where there are patches."""
        return self._of_queries(self.peaks_of_phrases())

    def phrases(self) -> Tensor:
        """(phrases, H, W): the whole map of each distinct phrase."""
        return self.rows_of_phrases(0, self.shape[1]).contiguous()

    def _of_queries(self, values: Tensor) -> Tensor:
        return values if self.queries is None else values[self.queries]


class PixelScores(QueryScores):
    """Scores straight from those of the patches.

    Args:
        patches: (window rows * patch rows, phrases, window columns * patch columns), see `score_windows`.
        rows: The matrix of `axis_matrix` for the first axis.
        columns: The matrix of `axis_matrix` for the last axis.
        queries: (Q,), the phrase of each query; None for every phrase once.
        seen: What each refinement has kept of the image, where it is one window.
        placement: How the patches lie on the image, for refinements that ask.
    """

    def __init__(
        self,
        patches: Tensor,
        rows: Tensor,
        columns: Tensor,
        queries: Tensor | None = None,
        seen: Sequence[Tensor | None] = (),
        placement: Placement | None = None,
    ) -> None:
        self.patches = patches.float().contiguous()
        self.rows = rows.to(patches.device)
        self.columns = columns.to(patches.device)
        self.queries = None if queries is None else queries.to(patches.device)
        self.seen = tuple(seen)
        self.placement = placement
        self.device = patches.device
        number = patches.shape[1] if queries is None else len(queries)
        self.shape = torch.Size((number, len(rows), len(columns)))

    @property
    def patch_shape(self) -> tuple[int, int]:
        """(rows, columns) of patches in a window."""
        spans = (None, None) if self.placement is None else self.placement.spans
        rows, columns = (side // len(span or (0,)) for side, span in zip(self.patches.shape[::2], spans, strict=True))
        return rows, columns

    def rows_of_phrases(self, first: int, last: int) -> Tensor:
        """See `QueryScores`."""
        length, phrases, width = self.patches.shape
        rows = self.rows[first:last] @ self.patches.view(length, phrases * width)
        pixels = (rows.view(-1, width) @ self.columns.T).view(-1, phrases, len(self.columns))
        return pixels.transpose(0, 1)

    def peaks_of_phrases(self) -> Tensor:
        """See `QueryScores`."""
        return self.patches.amax(dim=(0, 2))


class MapScores(QueryScores):
    """Scores from whole maps, which a refinement has made.

    Args:
        maps: (phrases or classes, H, W).
        queries: (Q,), the phrase of each query; None for every map once.
    """

    def __init__(self, maps: Tensor, queries: Tensor | None = None) -> None:
        self.maps = maps
        self.queries = queries
        self.device = maps.device
        self.shape = torch.Size((len(maps) if queries is None else len(queries), *maps.shape[1:]))

    def rows_of_phrases(self, first: int, last: int) -> Tensor:
        """See `QueryScores`."""
        return self.maps[:, first:last]

    def peaks_of_phrases(self) -> Tensor:
        """See `QueryScores`."""
        return self.maps.amax(dim=(1, 2))


class ChangedScores(Scores):
    """Scores after a function that looks at each pixel alone.

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


class MeanScores(Scores):
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


class ClassScores(Scores):
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
