"""The splice: tokens of overlapping windows on one canvas over the image, and the canvas on another grid.

Both steps are linear and act on rows and columns apart, so one matrix of each axis says them together.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from ...image.geometry import Axis
from ...image.windows import Span


def splice_matrix(axis: Axis, spans: Sequence[Span], added: Span, patches: int, cells: Sequence[int]) -> Tensor:
    """From the patches of all windows on an axis to cells of the image: (cells, windows * patches), float32.

    The canvas between the two lies over the network's input, and its cells have the size of a patch. Each is the mean
    of the windows that have its centre between centres of their patches. A window whose patches lie on the cells gives
    them as they are; another one is resampled linearly, since the last window of an axis may begin at any pixel. The
    canvas is resized bilinearly, as far as the image reaches, and parts of the image apart.

    Args:
        axis: What happened to the image on this axis.
        spans: The windows, all of one size, in pixels of the network's input.
        added: Pixels of zeros before and after each of them.
        patches: Of a window, these zeros included.
        cells: Of each of the equal parts of the image, without the padding of the pipeline.

    Returns:
        With the cells of all parts.
    """
    pitch = (spans[0][1] - spans[0][0] + sum(added)) / patches  # pixels from patch to patch
    number = max(1, int(axis.side / pitch + 1e-6))
    size = axis.side / number  # pixels of a cell of the canvas
    centres = (torch.arange(number, dtype=torch.float64) + 0.5) * size
    starts, stops = torch.tensor(spans, dtype=torch.float64).T[:, :, None]  # (windows, 1) each
    places = (centres - starts + added[0]) / pitch - 0.5  # (windows, cells), in patches of each window
    seen = (starts <= centres) & (centres < stops)
    between = seen & (places > -1e-6) & (places < patches - 1 + 1e-6)
    weight = between.where(between.any(dim=0), seen).double()  # a window's rim counts where no other one sees more
    canvas = linear_weights(places.flatten(), 0, patches, patches).unflatten(0, places.shape)
    canvas = (canvas * (weight / weight.sum(dim=0))[..., None]).transpose(0, 1)  # (cells, windows, patches)
    inner = axis.without_padding().side
    ends = [axis.padding[0] + inner * part / len(cells) for part in range(len(cells) + 1)]
    resized = []
    for (left, right), count in zip(pairwise(ends), cells, strict=True):
        places = left + (torch.arange(count, dtype=torch.float64) + 0.5) * ((right - left) / count)
        first, after = (int((centres < end).sum()) for end in (left, right))
        first = min(first, number - 1)  # a part may be smaller than a cell
        resized.append(linear_weights(places / size - 0.5, first, max(after, first + 1), number))
    return (torch.cat(resized) @ canvas.flatten(1)).float()


def linear_weights(places: Tensor, first: int, after: int, count: int) -> Tensor:
    """Linear interpolation of values at 0, 1, ...: (places, count).

    Args:
        places: Where, (places,).
        first: Of the values that are used; before it stays constant what is interpolated.
        after: The value after the last one that is used; likewise.
        count: Of all values.
    """
    places = places.clamp(first, after - 1)
    distance = (places[:, None] - torch.arange(count, dtype=places.dtype)).abs()
    return (1 - distance).clamp(min=0)
