"""Connected parts of masks, for many masks at once."""

import torch
from torch import Tensor
from torch.nn import functional as F


def connected_components(masks: Tensor) -> Tensor:
    """Number the parts of masks that hang together, also over corners (8-connectivity).

    Each pixel takes the largest number of its neighbourhood, and then the number that the pixel of that number has,
    so that numbers travel in ever longer steps; there is no loop over masks, pixels or parts.

    Args:
        masks: (M, h, w), bool.

    Returns:
        (M, h, w), int64: the same number from 1 to h * w in all pixels of a part, another one in every other part of
        the mask; 0 outside.
    """
    _, height, width = masks.shape
    labels = torch.arange(1, height * width + 1, device=masks.device).view(height, width) * masks
    while True:
        # The pooling kernels know no whole numbers; float64 holds those of any image.
        grown = F.max_pool2d(labels.double()[:, None], 3, stride=1, padding=1)[:, 0].long() * masks
        table = F.pad(grown.flatten(1), (1, 0))  # the number that the pixel of each number has; 0 stays 0
        grown = table.gather(1, grown.flatten(1)).view_as(grown)
        if torch.equal(grown, labels):
            return labels
        labels = grown


def fill_boxes(masks: Tensor) -> Tensor:
    """The bounding boxes of all connected parts, without the last row and the last column of the grid.

    The official code of FreeCP takes the end of a box as min(last + 1, side - 1), which leaves them out always; a
    part that lies there alone has no box.

    Args:
        masks: (M, h, w), bool.

    Returns:
        (M, h, w), bool: the union of the boxes.
    """
    number, height, width = masks.shape
    labels = connected_components(masks).flatten(1)  # (M, n)
    place = torch.arange(height * width, device=masks.device).expand_as(labels)

    def extreme(values: Tensor, start: int, reduce: str) -> Tensor:
        """Of `values` (M, n) over the pixels of each number: (M, n)."""
        empty = torch.full((number, height * width + 1), start, device=masks.device)
        return empty.scatter_reduce(1, labels, values, reduce)[:, 1:]

    top, bottom = extreme(place // width, height, 'amin'), extreme(place // width, -1, 'amax')
    left, right = extreme(place % width, width, 'amin'), extreme(place % width, -1, 'amax')
    bottom, right = (bottom + 1).clamp(max=height - 1), (right + 1).clamp(max=width - 1)
    there = ((top < bottom) & (left < right)).long()
    # Each box is +1 and -1 at its corners, and sums along both axes fill it.
    corners = torch.zeros(number, (height + 1) * (width + 1), dtype=torch.int64, device=masks.device)
    for row, column, sign in ((top, left, 1), (top, right, -1), (bottom, left, -1), (bottom, right, 1)):
        corners.scatter_add_(1, row * (width + 1) + column, sign * there)
    return corners.view(number, height + 1, width + 1).cumsum(1).cumsum(2)[:, :-1, :-1] > 0
