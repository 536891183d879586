"""The figure of a comparison."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from ..datasets.label_maps import VOID
from .comparison import Prediction, share_right
from .figure import Panel, class_legend, draw, legend_entry
from .methods import Method
from .pixels import NO_CLASS, WRONG, blend, errors, evaluated_pixels, paint


def comparison_figure(
    compared: Sequence[Sequence[Prediction]],
    methods: Sequence[Method],
    truth: bool,
    error_maps: bool,
    opacity: float = 1.0,
    max_side: int | None = None,
    title: str = '',
) -> Figure:
    """A row for each image: the image, each method, the ground truth; below it a row of error maps where asked for.

    Args:
        compared: For each image the predictions of all methods.
        methods: In the order of the predictions; classes, colours and the ignored label are the first's.
        truth: Whether there is a column of ground truth.
        error_maps: Whether there are error maps.
        opacity: Of the colours over the image, 0..1.
        max_side: Larger pictures are made smaller until their longer side has this many pixels.
        title: Above the figure.

    Returns:
        The figure; its legend has the classes that occur, and what the error maps show.
    """
    first = methods[0]
    not_counted = (*np.atleast_1d(first.ignore_index), VOID)
    rows, present = [], set()
    for image in compared:
        pixels, known = image[0].subject.pixels(first), image[0].truth
        if pixels.shape[:2] != image[0].labels.shape:  # only a part of the image is evaluated
            pixels = evaluated_pixels(pixels, image[0].subject.pack(first)['inputs'], image[0].labels.shape)
        row = [Panel(pixels, image[0].subject.name)]
        for method, prediction in zip(methods, image, strict=True):
            caption = method.name
            if known is not None:
                caption += f'\nmIoU {_decimal(prediction.miou)}'
                # The mIoU of one image suffers from a few pixels of a class that it does not show.
                caption += '' if error_maps else f', {_right(prediction, not_counted)}'
            row.append(Panel(_coloured(pixels, prediction.labels, first, opacity), caption))
            present |= set(np.unique(prediction.labels).tolist())
        if known is None:
            rows.append([*row, *[None] * truth])
            continue
        ignored = np.isin(known, not_counted)
        counted = np.where(ignored, NO_CLASS, known.astype(np.int64))
        if truth:
            row.append(Panel(_coloured(pixels, counted, first, opacity), 'ground truth'))
            present |= set(np.unique(counted).tolist())
        rows.append(row)
        if error_maps:
            present |= {NO_CLASS} if ignored.any() else set()
            row = [None]
            for prediction in image:
                row.append(Panel(errors(pixels, prediction.labels != known, ignored), _right(prediction, not_counted)))
            rows.append([*row, *[None] * truth])
    legend = class_legend(first.classes, first.palette, present)
    if len(rows) > len(compared):
        legend += [legend_entry('right (the pale image)', (215, 215, 215)), legend_entry('wrong', WRONG, '////')]
    return draw(rows, title, legend, max_side=max_side)


def _coloured(pixels: np.ndarray, labels: np.ndarray, method: Method, opacity: float) -> np.ndarray:
    return blend(pixels, paint(labels, method.palette), opacity)


def _right(prediction: Prediction, not_counted: Sequence[int]) -> str:
    return f'{_decimal(share_right(prediction.labels, prediction.truth, not_counted))} % right'


def _decimal(value: float) -> str:
    return '-' if math.isnan(value) else f'{value:.1f}'
