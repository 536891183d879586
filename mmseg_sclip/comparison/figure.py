"""The figure of a comparison."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np

from ..pictures import blend, paint
from ..sheets import Panel, Sheet, lay_out
from .methods import Method
from .running import Compared
from .scoring import IGNORED, error_map, share_right

# Blue and vermilion of Okabe and Ito, which colour-blind people can tell apart.
RIGHT_COLOUR, WRONG_COLOUR, IGNORED_COLOUR = (0, 114, 178), (213, 94, 0), (255, 255, 255)
ERROR_COLOURS = (RIGHT_COLOUR, WRONG_COLOUR, IGNORED_COLOUR)
ERROR_NAMES = ('right', 'wrong', 'ignored')


def compare_figure(
    compared: Sequence[Compared],
    methods: Sequence[Method],
    truth: bool,
    errors: bool,
    opacity: float = 1.0,
    max_side: int | None = None,
    title: str = '',
) -> Sheet:
    """A row for each image: the image, each method, the ground truth; below it a row of error maps where asked for.

    Args:
        compared: The images.
        methods: Their names are the headings; classes, colours and the ignored label are the first's.
        truth: Whether there is a column of ground truth.
        errors: Whether there are error maps.
        opacity: Of the colours over the image, 0..1.
        max_side: Larger pictures are made smaller until their longer side has this many pixels.
        title: Above the figure.

    Returns:
        The sheet; its legend has the classes that occur, and what the error maps show.
    """
    first = methods[0]
    colours = first.palette
    rows, labels, seen, ignored = [], [], set(), False
    for image in compared:
        scores = image.scores(first)  # at full size
        pixels, *maps = _shrink(image, max_side)
        known = maps[-1] if image.truth is not None else None
        row = [Panel(pixels)]
        for index in range(len(methods)):
            caption = f'mIoU {_decimal(scores[index])}' if scores else ''
            row.append(Panel(blend(pixels, maps[index], colours, opacity, ignore=None), caption))
            seen |= set(np.unique(maps[index]).tolist())
        if truth:
            row.append(None if known is None else Panel(_paint_truth(pixels, known, first, opacity)))
        if known is not None and truth:
            seen |= set(np.unique(known).tolist()) - {first.ignore_index}
            ignored = ignored or bool((known == first.ignore_index).any())
        rows.append(row)
        labels.append(image.subject.name)
        if errors and known is not None:
            row = [None]
            for index, prediction in enumerate(image.predictions):
                exact = error_map(prediction, image.truth, first.ignore_index)
                shown = error_map(maps[index], known, first.ignore_index)
                ignored = ignored or bool((shown == IGNORED).any())
                row.append(Panel(paint(shown, ERROR_COLOURS, None), f'{_decimal(share_right(exact))} % right'))
            rows.append(row + [None] * truth)
            labels.append('')
    legend = [(first.classes[label], colours[label]) for label in sorted(seen)]
    if errors and len(rows) > len(compared):
        legend += list(zip(ERROR_NAMES, ERROR_COLOURS, strict=True))[: 3 if ignored else 2]
    elif ignored:
        legend.append((ERROR_NAMES[IGNORED], IGNORED_COLOUR))
    return lay_out(
        rows,
        labels,
        ['image', *(method.name for method in methods), *['ground truth'] * truth],
        title=title,
        names=[name for name, _ in legend],
        palette=[colour for _, colour in legend],
    )


def _decimal(value: float) -> str:
    return '-' if math.isnan(value) else f'{value:.1f}'


def _paint_truth(pixels: np.ndarray, truth: np.ndarray, method: Method, opacity: float) -> np.ndarray:
    """Ground truth in colours, white where it is ignored, since black is the background of many datasets."""
    shown = truth.astype(np.int64)
    shown[truth == method.ignore_index] = len(method.palette)
    return blend(pixels, shown, [*method.palette, IGNORED_COLOUR], opacity, ignore=None)


def _shrink(image: Compared, max_side: int | None) -> list[np.ndarray]:
    """The pixels, the predictions and the ground truth where there is one, at the size in which they are shown."""
    maps = [*image.predictions, *([] if image.truth is None else [image.truth])]
    height, width = image.pixels.shape[:2]
    if max_side is None or max(height, width) <= max_side:
        return [image.pixels, *maps]
    share = max_side / max(height, width)
    size = max(1, round(width * share)), max(1, round(height * share))
    return [
        cv2.resize(image.pixels, size, interpolation=cv2.INTER_AREA),
        *(cv2.resize(each.astype(np.uint16), size, interpolation=cv2.INTER_NEAREST_EXACT) for each in maps),
    ]
