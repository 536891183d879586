"""From patch scores to pixels, as a product of matrices.

Bilinear resizing acts on rows and columns apart and is linear, and so are the average over windows, the
removal of padding, and flips. One matrix of rows and one of columns say all of them together, so any band of
rows comes straight from the patch scores: neither the map at the network's input size nor the whole map at
original size is needed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from ...utils.checks import check_choice
from .windows import Span

_FLIPS = ('horizontal', 'vertical')


@dataclass(frozen=True)
class Axis:
    """What happens to one axis between patches and pixels; hashable.

    Attributes:
        spans: The windows on it, in pixels of the network's input; None for the whole side at once, straight
            to `original`.
        patches: Patches of a window.
        side: Pixels of the network's input.
        padding: Pixels that were added before and behind the image.
        flipped: Whether the image was mirrored.
        original: Pixels of the result.
    """

    spans: tuple[Span, ...] | None
    patches: int
    side: int
    padding: tuple[int, int]
    flipped: bool
    original: int


def image_axes(
    spans: tuple[tuple[Span, ...], tuple[Span, ...]],
    patches: Sequence[int],
    input_size: Sequence[int],
    meta: Mapping,
    test_cfg: Mapping,
) -> tuple[Axis, Axis]:
    """Rows and columns of an image.

    Args:
        spans: Of the windows, rows and columns.
        patches: (rows, columns) of a window.
        input_size: (height, width) of the network's input, padding included.
        meta: Of the image: `ori_shape`, and what was padded and flipped, as in MMSeg's `postprocess_result`.
        test_cfg: In whole mode patches go straight to the original size, unless padding stands between or
            `whole_resize` is 'input'.

    Raises:
        ValueError: The image was flipped in an unknown direction.
    """
    left, right, top, bottom = meta.get('img_padding_size', meta.get('padding_size', (0, 0, 0, 0)))
    padding = ((top, bottom), (left, right))
    direct = test_cfg['mode'] == 'whole' and test_cfg['whole_resize'] == 'direct' and not any(sum(padding, ()))
    flip = None
    if meta.get('flip'):
        flip = meta.get('flip_direction')
        check_choice('flip_direction', flip, _FLIPS)
    original = meta.get('ori_shape', input_size)[:2]
    return tuple(
        Axis(
            None if direct else tuple(spans[i]),
            patches[i],
            input_size[i],
            padding[i],
            flip == ('vertical', 'horizontal')[i],
            original[i],
        )
        for i in range(2)
    )


@lru_cache(maxsize=16)
@torch.inference_mode(False)  # what is kept may be needed with gradients later
@torch.no_grad()
def axis_matrix(axis: Axis) -> Tensor:
    """(pixels of the result, windows * patches): the weight of each patch in each pixel, float32."""
    if axis.spans is None:
        matrix = _enlarge(torch.eye(axis.patches), axis.original)
        return matrix.flip(0) if axis.flipped else matrix
    matrix = torch.zeros(axis.side, len(axis.spans), axis.patches, dtype=torch.float64)
    counts = torch.zeros(axis.side, 1, 1, dtype=torch.float64)
    for window, (start, stop) in enumerate(axis.spans):
        matrix[start:stop, window] = _enlarge(torch.eye(axis.patches), stop - start).double()
        counts[start:stop] += 1
    matrix = (matrix / counts).flatten(1)  # the average of the windows over each pixel
    matrix = matrix[axis.padding[0] : axis.side - axis.padding[1]]
    if axis.flipped:
        matrix = matrix.flip(0)
    return _enlarge(matrix.float(), axis.original)


def _enlarge(columns: Tensor, size: int) -> Tensor:
    """(length, K) to (size, K): linear resizing of each column, `align_corners` off as everywhere."""
    return F.interpolate(columns.T[None], size=size, mode='linear', align_corners=False)[0].T


class PixelScores:
    """The scores of an image at every pixel, made band by band.

    Each distinct phrase is computed once; a phrase that stands for several classes has the same numbers in all of
    them, to the last bit, so that ties stay ties.

    Args:
        scores: (window rows * patch rows, phrases, window columns * patch columns), see `score_windows`.
        rows: What happens to its first axis: a matrix of `axis_matrix`.
        columns: What happens to its last axis, likewise.
        queries: (Q,), the phrase of each query; None for every phrase once.
    """

    def __init__(self, scores: Tensor, rows: Tensor, columns: Tensor, queries: Tensor | None = None) -> None:
        self.scores = scores.float().contiguous()
        self.rows = rows.to(scores.device)
        self.columns = columns.to(scores.device)
        self.queries = None if queries is None else queries.to(scores.device)
        self.device = scores.device
        count = scores.shape[1] if queries is None else len(queries)
        self.shape = torch.Size((count, len(rows), len(columns)))

    def band(self, first: int, last: int) -> Tensor:
        """(rows, Q, W) of the pixels' rows from `first` to before `last`; a new tensor at each call."""
        patches, phrases, columns = self.scores.shape
        rows = self.rows[first:last] @ self.scores.view(patches, phrases * columns)
        found = (rows.view(-1, columns) @ self.columns.T).view(-1, phrases, len(self.columns))
        return found if self.queries is None else found[:, self.queries]

    def only(self, kept: Tensor) -> PixelScores:
        """The same with some of the queries, by their indices."""
        wanted = kept if self.queries is None else self.queries[kept]
        phrases, queries = wanted.unique(return_inverse=True)
        scores = self.scores[:, phrases]
        return PixelScores(scores, self.rows, self.columns, None if len(phrases) == len(queries) else queries)

    def whole(self) -> Tensor:
        """(phrases, H, W): the whole map of each distinct phrase."""
        plain = PixelScores(self.scores, self.rows, self.columns)
        return plain.band(0, self.shape[1]).transpose(0, 1).contiguous()


class MapScores:
    """The same from a whole map, for refinements that need one.

    Args:
        scores: (phrases, H, W).
        queries: As in `PixelScores`.
    """

    def __init__(self, scores: Tensor, queries: Tensor | None = None) -> None:
        self.scores = scores
        self.queries = torch.arange(len(scores), device=scores.device) if queries is None else queries
        self.device = scores.device
        self.shape = torch.Size((len(self.queries), *scores.shape[1:]))

    def band(self, first: int, last: int) -> Tensor:
        """As `PixelScores.band`."""
        return self.scores[:, first:last].transpose(0, 1)[:, self.queries]

    def only(self, kept: Tensor) -> MapScores:
        """As `PixelScores.only`."""
        return MapScores(self.scores, self.queries[kept])
