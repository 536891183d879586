"""Sliding windows over several images, many windows in one forward."""

from collections.abc import Callable, Sequence

from torch import Tensor, stack

Window = tuple[int, int, int, int]


def window_grid(height: int, width: int, crop_size: Sequence[int], stride: Sequence[int]) -> list[Window]:
    """Windows (top, bottom, left, right) in pixels, row by row, as MMSeg cuts them.

    The last window of a row or column is moved back into the image; an image smaller than the crop
    is one window of its own size.
    """

    def spans(side: int, crop: int, step: int) -> list[tuple[int, int]]:
        starts = [min(i * step, max(side - crop, 0)) for i in range((max(side - crop, 0) + step - 1) // step + 1)]
        return [(start, min(start + crop, side)) for start in starts]

    return [
        (top, bottom, left, right)
        for top, bottom in spans(height, crop_size[0], stride[0])
        for left, right in spans(width, crop_size[1], stride[1])
    ]


def slide(
    images: Sequence[Tensor],
    crop_size: Sequence[int],
    stride: Sequence[int],
    window_batch: int,
    score: Callable[[Tensor], Tensor],
) -> list[Tensor]:
    """Average the scores of overlapping windows.

    Args:
        images: (3, H, W) each, of any sizes; nothing is padded.
        crop_size: (height, width) in pixels.
        stride: (vertical, horizontal) in pixels.
        window_batch: Windows in one forward, over all images; windows of different sizes are not mixed.
        score: From crops (B, 3, h, w) to scores (B, Q, h, w).

    Returns:
        (Q, H, W) for each image.
    """
    by_size: dict[tuple[int, int], list[tuple[int, Window]]] = {}
    counts = [image.new_zeros(image.shape[-2:]) for image in images]
    for index, image in enumerate(images):
        for window in window_grid(*image.shape[-2:], crop_size, stride):
            top, bottom, left, right = window
            counts[index][top:bottom, left:right] += 1
            by_size.setdefault((bottom - top, right - left), []).append((index, window))
    totals: list[Tensor | None] = [None] * len(images)
    for windows in by_size.values():
        for first in range(0, len(windows), window_batch):
            batch = windows[first : first + window_batch]
            crops = stack([images[index][:, top:bottom, left:right] for index, (top, bottom, left, right) in batch])
            for (index, (top, bottom, left, right)), scores in zip(batch, score(crops), strict=True):
                if totals[index] is None:
                    totals[index] = scores.new_zeros(len(scores), *images[index].shape[-2:])
                totals[index][:, top:bottom, left:right] += scores
    return [total.div_(count) for total, count in zip(totals, counts, strict=True)]
