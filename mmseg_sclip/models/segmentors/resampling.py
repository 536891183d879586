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


@lru_cache(maxsize=64)
def axis_matrix(axis: Axis) -> Tensor:
    """(pixels of the result, windows * patches): the weight of each patch in each pixel, float32."""
    if axis.spans is None:
        matrix = _enlarge(torch.eye(axis.patches), axis.original).double()
        return (matrix.flip(0) if axis.flipped else matrix).float()
    matrix = torch.zeros(axis.side, len(axis.spans), axis.patches, dtype=torch.float64)
    counts = torch.zeros(axis.side, 1, 1, dtype=torch.float64)
    for window, (start, stop) in enumerate(axis.spans):
        matrix[start:stop, window] = _enlarge(torch.eye(axis.patches), stop - start).double()
        counts[start:stop] += 1
    matrix = (matrix / counts).flatten(1)  # the average of the windows over each pixel
    matrix = matrix[axis.padding[0] : axis.side - axis.padding[1]]
    if axis.flipped:
        matrix = matrix.flip(0)
    return (_enlarge(torch.eye(len(matrix)), axis.original).double() @ matrix).float()


def _enlarge(columns: Tensor, size: int) -> Tensor:
    """(length, K) to (size, K): linear resizing of each column, `align_corners` off as everywhere."""
    return F.interpolate(columns.T[None], size=size, mode='linear', align_corners=False)[0].T


class PixelScores:
    """The scores of an image at every pixel, made band by band.

    Args:
        scores: (window rows * patch rows, K, window columns * patch columns), see `score_windows`.
        rows: What happens to its first axis.
        columns: What happens to its last axis.

    Attributes:
        shape: (K, H, W) of the whole map.
    """

    def __init__(self, scores: Tensor, rows: Axis, columns: Axis) -> None:
        self.scores = scores.float().contiguous()
        self.rows = axis_matrix(rows).to(scores.device)
        self.columns = axis_matrix(columns).to(scores.device)
        self.shape = torch.Size((scores.shape[1], rows.original, columns.original))

    def band(self, first: int, last: int) -> Tensor:
        """(rows, K, W) of the pixels' rows from `first` to before `last`."""
        patches, queries, columns = self.scores.shape
        rows = self.rows[first:last] @ self.scores.view(patches, queries * columns)
        return (rows.view(-1, columns) @ self.columns.T).view(-1, queries, len(self.columns))

    def whole(self) -> Tensor:
        """(K, H, W)."""
        return self.band(0, self.shape[1]).transpose(0, 1).contiguous()
