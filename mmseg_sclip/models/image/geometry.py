"""From patches of windows, or from the network's input, to the pixels of the image as it was loaded.

Bilinear resizing acts on rows and columns apart and is linear, and so are the average over windows, the removal of
padding, and flips. One matrix of rows and one of columns say all of them together, so any band of rows comes straight
from the patch scores: neither a map at the network's input size nor a whole map at original size is needed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from ...checks import check_choice
from ...errors import ConfigError
from .windows import Span, padding

_FLIPS = ('vertical', 'horizontal')  # of rows, of columns


@dataclass(frozen=True)
class Axis:
    """What happened to one axis of an image on its way to the network; hashable.

    Attributes:
        side: Pixels of the network's input, padding included.
        padding: Pixels that were added before and after the image.
        flipped: Whether the image was mirrored on this axis.
        original: Pixels of the image as it was loaded.
    """

    side: int
    padding: tuple[int, int]
    flipped: bool
    original: int

    def without_padding(self) -> Axis:
        """The same axis of the image before it was padded."""
        return replace(self, side=self.side - sum(self.padding), padding=(0, 0))

    def cut(self, values: Tensor, dim: int) -> Tensor:
        """Undo padding and flip of `values`, whose axis `dim` is at the network's input size."""
        values = values.narrow(dim, self.padding[0], self.side - sum(self.padding))
        return values.flip(dim) if self.flipped else values


def image_axes(input_size: Sequence[int], meta: Mapping) -> tuple[Axis, Axis]:
    """Rows and columns of an image.

    Args:
        input_size: (height, width) of the network's input, padding included.
        meta: The sample's `ori_shape`, and what was padded and flipped, as MMSeg's `postprocess_result` reads it.

    Raises:
        ConfigError: The image was flipped in an unknown direction.
    """
    left, right, top, bottom = meta.get('img_padding_size', meta.get('padding_size', (0, 0, 0, 0)))
    flip = meta.get('flip_direction') if meta.get('flip') else None
    if meta.get('flip'):
        check_choice('flip_direction', flip, _FLIPS)
    original = meta.get('ori_shape', input_size)
    rows, columns = (
        Axis(input_size[i], padding, flip == _FLIPS[i], original[i])
        for i, padding in enumerate(((top, bottom), (left, right)))
    )
    return rows, columns


@dataclass(frozen=True)
class Placement:
    """How the patches of an image's windows lie on its pixels.

    Attributes:
        axes: Rows and columns of the image.
        spans: The windows on each axis; None to go straight to the original size. See `axis_matrix`.
        multiple: Sides of windows were padded to multiples of this.
        of_image: Whether the patches cover the image alone, and not what the pipeline has padded.
    """

    axes: tuple[Axis, Axis]
    spans: tuple[tuple[Span, ...] | None, tuple[Span, ...] | None]
    multiple: int = 1
    of_image: bool = False

    def at_input(self) -> Placement:
        """How the same patches lie on the pixels of the network's input, with its padding and its flip.

        Raises:
            ConfigError: They do not cover the padding.
        """
        if self.of_image and any(any(axis.padding) for axis in self.axes):
            raise ConfigError(
                "A refinement works at the size of the network's input, which the test pipeline or the "
                'data_preprocessor pads, but model.stitch makes a map without the padding. Take out one of the three.'
            )
        rows, columns = (replace(axis, padding=(0, 0), flipped=False, original=axis.side) for axis in self.axes)
        return replace(self, axes=(rows, columns))

    def matrices(self, patches: Sequence[int]) -> tuple[Tensor, Tensor]:
        """`axis_matrix` of rows and of columns, for windows of (rows, columns) patches."""
        axes = [axis.without_padding() for axis in self.axes] if self.of_image else self.axes
        rows, columns = (axis_matrix(*each, self.multiple) for each in zip(axes, self.spans, patches, strict=True))
        return rows, columns


def restore_image(image: Tensor, axes: tuple[Axis, Axis]) -> Tensor:
    """The network's input (3, H', W') as an image of original size (3, H, W)."""
    for dim, axis in enumerate(axes, 1):
        image = axis.cut(image, dim)
    size = tuple(axis.original for axis in axes)
    # Channel by channel, since torch picks its kernel for three channels by the number of threads.
    return torch.cat([F.interpolate(channel[None, None], size, mode='bilinear')[0] for channel in image])


@lru_cache(maxsize=16)
@torch.inference_mode(False)  # what is kept may be needed with gradients later
@torch.no_grad()
def axis_matrix(axis: Axis, spans: tuple[Span, ...] | None, patches: int, multiple: int = 1) -> Tensor:
    """The weight of each patch in each pixel: (pixels of the image, windows * patches), float32.

    Args:
        axis: The axis.
        spans: The windows on it, in pixels of the network's input; None for the whole side at once, straight to the
            original size where there is no padding.
        patches: Patches of a window, padding included.
        multiple: The windows were padded to a multiple of this many pixels.
    """
    padded = any(padding(span, multiple) != (0, 0) for span in spans or ((0, axis.side),))
    if spans is None and not padded and not any(axis.padding):
        matrix = _enlarge(torch.eye(patches), axis.original)
        return matrix.flip(0) if axis.flipped else matrix
    spans = spans or ((0, axis.side),)
    matrix = torch.zeros(axis.side, len(spans), patches, dtype=torch.float64)
    counts = torch.zeros(axis.side, 1, 1, dtype=torch.float64)
    for window, (start, stop) in enumerate(spans):
        before, after = padding((start, stop), multiple)
        enlarged = _enlarge(torch.eye(patches), before + stop - start + after)
        matrix[start:stop, window] = enlarged[before : before + stop - start].double()
        counts[start:stop] += 1
    matrix = (matrix / counts).flatten(1)  # the average of the windows over each pixel
    return _enlarge(axis.cut(matrix, 0).float(), axis.original)


def resizing_matrix(length: int, size: int) -> Tensor:
    """(size, length), float32: the weight of each of `length` cells in each of `size` cells, bilinearly resized."""
    return _enlarge(torch.eye(length), size)


def _enlarge(columns: Tensor, size: int) -> Tensor:
    """(length, K) to (size, K): linear resizing of each column, `align_corners` off as everywhere."""
    return F.interpolate(columns.T[None], size=size, mode='linear', align_corners=False)[0].T
