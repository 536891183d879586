"""Scores of an image at every pixel, read in bands of rows.

No map of all queries at all pixels is held, unless a refinement needs one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .geometry import Placement
from .postprocess import best_of_class, query_probabilities
from .taps import Taps

if TYPE_CHECKING:
    from ..record import Source

# Numbers in one band: few enough for a processor's cache, many enough to keep a GPU busy.
_BAND_CPU, _BAND_GPU = 1 << 20, 1 << 25
_COLUMNS = 128  # of pixels that are brought to the original size at once


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
        source: The image, likewise.
    """

    def __init__(
        self,
        patches: Tensor,
        rows: Tensor,
        columns: Tensor,
        queries: Tensor | None = None,
        seen: Sequence[Tensor | None] = (),
        placement: Placement | None = None,
        source: Source | None = None,
    ) -> None:
        self.patches = patches.float().contiguous()
        self.rows = rows.to(patches.device)
        self.columns = columns.to(patches.device)
        self._taps = Taps.of(self.rows), Taps.of(self.columns)
        self.queries = None if queries is None else queries.to(patches.device)
        self.seen = tuple(seen)
        self.placement = placement
        self.source = source
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
        patches, (above, beside) = self.patches.view(length, phrases * width), self._taps
        rows = self.rows[first:last] @ patches if above is None else above.band(first, last).read(patches, 0)
        rows = rows.view(-1, width)
        pixels = rows @ self.columns.T if beside is None else beside.read(rows, -1)
        return pixels.view(-1, phrases, len(self.columns)).transpose(0, 1)

    def peaks_of_phrases(self) -> Tensor:
        """See `QueryScores`."""
        return self.patches.amax(dim=(0, 2))

    def moved(self, placement: Placement) -> PixelScores:
        """Scores from the same patches at other pixels, of each phrase once."""
        return PixelScores(self.patches, *placement.matrices(self.patch_shape))


class MixedScores(PixelScores):
    """Scores that are sums of maps, which have other weights in each window.

    Where many phrases share few maps, such as those of painted groups, only the maps are brought to the pixels.

    Args:
        mix: (windows, K, phrases), the weights; windows row by row.
        patches: (window rows * patch rows, K, window columns * patch columns), the maps.
        **more: See `PixelScores`; `queries` there must be None. `placement` says which windows there are.
    """

    def __init__(self, mix: Tensor, patches: Tensor, rows: Tensor, columns: Tensor, **more) -> None:
        super().__init__(patches, rows, columns, **more)
        self.mix = mix.float()
        self.shape = torch.Size((mix.shape[2], *self.shape[1:]))
        sides = zip((self.rows, self.columns), self.patch_shape, strict=True)
        self._extents = [_extents(matrix, patches) for matrix, patches in sides]

    def rows_of_phrases(self, first: int, last: int) -> Tensor:
        """See `QueryScores`; of each pixel only the windows that it lies in are looked at."""
        (height, width), (down, across) = self.patch_shape, self._extents
        mixes = self.mix.unflatten(0, (len(down), len(across)))
        result = self.patches.new_zeros(self.shape[0], last - first, self.shape[2])
        for i, (top, bottom) in enumerate(down):
            top, bottom = max(top, first), min(bottom, last)
            if top >= bottom:
                continue
            maps = self.patches[i * height : (i + 1) * height]  # (height, K, window columns * width)
            found = self.rows[top:bottom, i * height : (i + 1) * height] @ maps.flatten(1)
            found = found.unflatten(1, (maps.shape[1], len(across), width)).transpose(0, 1)  # (K, rows, windows, width)
            for j, (left, right) in enumerate(across):
                pixels = found[:, :, j] @ self.columns[left:right, j * width : (j + 1) * width].T
                scores = (mixes[i, j].T @ pixels.flatten(1)).unflatten(1, pixels.shape[1:])
                result[:, top - first : bottom - first, left:right] += scores
        return result

    def peaks_of_phrases(self) -> Tensor:
        """See `QueryScores`; the maps are not negative."""
        peaks = self._windows().amax(dim=(1, 4)).transpose(1, 2).flatten(0, 1)  # (windows, maps)
        return (peaks[:, :, None] * self.mix).amax(dim=(0, 1))

    def moved(self, placement: Placement) -> MixedScores:
        """See `PixelScores.moved`."""
        rows, columns = placement.matrices(self.patch_shape)
        return MixedScores(self.mix, self.patches, rows, columns, placement=placement)

    def _windows(self) -> Tensor:
        """The maps as (windows of a column, height, maps, windows of a row, width)."""
        height, width = self.patch_shape
        return self.patches.unflatten(2, (-1, width)).unflatten(0, (-1, height))


def _extents(matrix: Tensor, patches: int) -> list[tuple[int, int]]:
    """(first pixel, pixel after the last) that each window reaches, of a matrix of `axis_matrix`."""
    reached = (matrix.unflatten(1, (-1, patches)) != 0).any(dim=2).int()  # (pixels, windows)
    first, last = reached.argmax(dim=0), len(matrix) - reached.flip(0).argmax(dim=0)
    return list(zip(first.tolist(), torch.where(reached.any(dim=0), last, first).tolist(), strict=True))


class InputScores(PixelScores):
    """Scores from maps at the network's input size, of which few pixels bear on one of the original size.

    Arguments are those of `PixelScores`, with a pixel in place of a patch. Zeros of its matrices are left out.
    """

    def rows_of_phrases(self, first: int, last: int) -> Tensor:
        """See `QueryScores`."""
        _, phrases, width = self.patches.shape
        used = _used(self.rows[first:last])
        rows = (self.rows[first:last, used] @ self.patches[used].flatten(1)).view(-1, width)
        pixels = rows.new_empty(len(rows), len(self.columns))
        for block, part in zip(self.columns.split(_COLUMNS), pixels.split(_COLUMNS, dim=1), strict=True):
            used = _used(block)
            part.copy_(rows[:, used] @ block[:, used].T)
        return pixels.view(-1, phrases, len(self.columns)).transpose(0, 1)


def _used(matrix: Tensor) -> slice:
    """The columns of a matrix from the first to the last that is not zero everywhere."""
    columns = matrix.any(dim=0).nonzero()
    return slice(int(columns[0]), int(columns[-1]) + 1)


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
