"""Pictures in rows and columns, with labels, captions and a legend."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import wrap
from typing import NamedTuple

import numpy as np

from ..pictures import legend, text_size
from .sheet import Placed, Sheet, Text

_SMALLEST_PANEL = 224  # pixels of the longest side; smaller pictures are enlarged by a whole number
_NARROWEST = 8  # a column is at least this many times the font's size wide
_FONTS = (14, 40)  # smallest and largest, in pixels
_LINES_OF_A_PANEL = 24
_MOST_PIXELS = 400_000_000  # of a sheet: 1.2 GB while it is drawn
_LABEL_WIDTH = 30  # characters of a line of a row's label


class Panel(NamedTuple):
    """One picture of a sheet.

    Attributes:
        picture: (H, W, 3), uint8, RGB.
        caption: Stands below it.
    """

    picture: np.ndarray
    caption: str = ''


def lay_out(
    rows: Sequence[Sequence[Panel | None]],
    labels: Sequence[str],
    columns: Sequence[str],
    title: str = '',
    notes: Sequence[str | np.ndarray] = (),
    names: Sequence[str] = (),
    palette: Sequence[Sequence[int]] = (),
) -> Sheet:
    """Place panels in rows and columns, their pixels untouched or all enlarged by one whole number.

    Args:
        rows: Panels, or None where a cell stays empty.
        labels: Of the rows, on their left; line breaks are kept.
        columns: Headings.
        title: Above everything.
        notes: Below everything: lines, and pictures such as a colour bar.
        names: Of the classes in the legend; none for no legend.
        palette: Their colours.

    Raises:
        ValueError: The sheet would be too large.
    """
    panels = [panel for row in rows for panel in row if panel is not None]
    factor = max(1, -(-_SMALLEST_PANEL // max(max(panel.picture.shape[:2]) for panel in panels)))
    font = min(max(factor * max(len(panel.picture) for panel in panels) // _LINES_OF_A_PANEL, _FONTS[0]), _FONTS[1])
    line, gap = text_size('', font)[1], font
    widths = [
        max([_NARROWEST * font, *(factor * row[i].picture.shape[1] for row in rows if row[i] is not None)])
        for i in range(len(columns))
    ]
    broken = [
        [part for whole in label.split('\n') for part in wrap(whole, _LABEL_WIDTH) or ['']] if label else []
        for label in labels
    ]
    label_width = max((text_size(part, font)[0] for label in broken for part in label), default=0)
    lefts = [gap + (label_width + gap if label_width else 0)]
    for width in widths:
        lefts.append(lefts[-1] + width + gap)
    _check_size(lefts[-1], sum(max(len(p.picture) if p else 0 for p in row) * factor for row in rows))

    sheet = Sheet(factor=factor)
    y = gap
    for text in fit(title, font, lefts[-1] - 2 * gap):
        sheet.texts.append(Text(gap, y, text, font))
        y += line
    y = _write_row(sheet, columns, lefts, widths, y + (gap // 2 if title else 0), font)
    for index, row in enumerate(rows):
        height = max((factor * len(panel.picture) for panel in row if panel is not None), default=0)
        height = max(height, line * len(broken[index]))
        for number, part in enumerate(broken[index]):
            top = y + (height - line * len(broken[index])) // 2 + number * line
            sheet.texts.append(Text(gap, top, part, font))
        for column, panel in enumerate(row):
            if panel is not None:
                picture = np.repeat(np.repeat(panel.picture, factor, axis=0), factor, axis=1)
                sheet.pictures.append(Placed(lefts[column], y, picture, index, column))
        captions = ['' if panel is None else panel.caption for panel in row]
        y = _write_row(sheet, captions, lefts, widths, y + height, font) + gap // 2
    for note in notes:
        if isinstance(note, str):
            for text in fit(note, font, lefts[-1] - 2 * gap):
                sheet.texts.append(Text(gap, y, text, font))
                y += line
        else:
            sheet.pictures.append(Placed(gap, y, note))
            y += len(note) + gap // 2
    sheet.size = (lefts[-1], y + gap // 2)
    if names:
        laid_out = legend(names, palette, height=sheet.size[1], font=font)
        sheet.legend = (sheet.size[0], 0, laid_out)
        sheet.size = (sheet.size[0] + laid_out.size[0], max(sheet.size[1], laid_out.size[1]))
    return sheet


def fit(text: str, font: int, width: int) -> list[str]:
    """A text in lines that are at most `width` pixels wide; a word that is wider is broken."""
    if not text:
        return []
    most = len(text)
    while most > 1:
        lines = wrap(text, most)
        if max(text_size(part, font)[0] for part in lines) <= width:
            return lines
        most -= 1
    return wrap(text, 1)


def _write_row(
    sheet: Sheet, texts: Sequence[str], lefts: Sequence[int], widths: Sequence[int], y: int, font: int
) -> int:
    """Write a text at the left of each column, from y on; returns where the highest ends."""
    line, lines = text_size('', font)[1], 0
    for text, left, width in zip(texts, lefts, widths, strict=False):  # a left more than columns
        for number, part in enumerate(fit(text, font, width)):
            sheet.texts.append(Text(left, y + number * line, part, font))
            lines = max(lines, number + 1)
    return y + lines * line


def _check_size(width: int, height: int) -> None:
    if width * height > _MOST_PIXELS:
        raise ValueError(
            f'The figure would have {width} x {height} pixels, more than can be drawn. Give fewer rows or columns, or '
            'smaller pictures: --max-side 1024.'
        )
