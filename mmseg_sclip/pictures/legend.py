"""Legends: a coloured field and a name for each class."""

from collections.abc import Collection, Sequence
from textwrap import wrap
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from .colours import BLACK, Colour
from .text import draw_text, is_readable, text_size

_WIDEST = 40  # characters of a line; longer names are broken
_WHITE, _FRAME = (255, 255, 255), (128, 128, 128)
_LEAST_FONT, _LARGEST_FONT = 14, 48
_LINES_OF_A_PICTURE = 24

Box = tuple[int, int, int, int]


class Entry(NamedTuple):
    """A class in a legend.

    Attributes:
        label: Its number.
        name: As the user wrote it.
        lines: The name, broken where it is long; its number behind it where no font can write it.
        colour: RGB.
        swatch: (left, top, right, bottom) in pixels of the field in its colour; the ends are not included.
        text: Likewise, of its name.
    """

    label: int
    name: str
    lines: tuple[str, ...]
    colour: Colour
    swatch: Box
    text: Box


class Legend(NamedTuple):
    """Where everything in a legend stands.

    Attributes:
        size: (width, height) in pixels.
        font: Size of the font in pixels.
        entries: In order of the labels.
    """

    size: tuple[int, int]
    font: int
    entries: tuple[Entry, ...]

    def draw(self) -> Image.Image:
        """The legend on white."""
        picture = Image.new('RGB', self.size, _WHITE)
        draw = ImageDraw.Draw(picture)
        for entry in self.entries:
            left, top, right, bottom = entry.swatch
            draw.rectangle((left, top, right - 1, bottom - 1), entry.colour, _FRAME)
            for number, line in enumerate(entry.lines):
                at = entry.text[0], entry.text[1] + number * text_size(line, self.font)[1]
                draw_text(draw, at, line, self.font, BLACK)
        return picture


def legend(
    names: Sequence[str],
    palette: Sequence[Sequence[int]],
    present: Collection[int] | None = None,
    height: int | None = None,
    font: int = _LEAST_FONT,
) -> Legend:
    """Lay out a legend, in columns from the top left.

    Args:
        names: Of all classes, in any script.
        palette: RGB of all classes.
        present: Labels to be listed; None for all.
        height: A column is at most this high, in pixels, but holds at least one class; None for one column.
        font: Size of the font in pixels.
    """
    pad, gap = font // 2, font // 3
    line = text_size('', font)[1]
    x, y, width, bottom = pad, pad, 0, pad
    entries = []
    for label, name in enumerate(names):
        if present is not None and label not in present:
            continue
        # Boxes tell no class from another, its number does.
        written = str(name) if is_readable(str(name)) else f'{name} (label {label})'
        lines = tuple(wrap(' '.join(written.split()), _WIDEST)) or ('',)
        tall = line * len(lines)
        if height is not None and y > pad and y + tall + pad > height:  # the next column
            x, y, width = width + 2 * pad, pad, 0
        left = x + line + pad
        right = left + max(text_size(text, font)[0] for text in lines)
        colour = tuple(int(value) for value in palette[label])
        swatch = (x, y, x + line, y + line)
        entries.append(Entry(label, str(name), lines, colour, swatch, (left, y, right, y + tall)))
        width, bottom = max(width, right), max(bottom, y + tall)
        y += tall + gap
    far = max((entry.text[2] for entry in entries), default=0)
    return Legend((far + pad, bottom + pad), font, tuple(entries))


def with_legend(
    picture: np.ndarray | Image.Image,
    names: Sequence[str],
    palette: Sequence[Sequence[int]],
    present: Collection[int] | None = None,
) -> Image.Image:
    """A picture, untouched at the top left, with a legend on its right.

    Args:
        picture: (H, W, 3) uint8 RGB, or an image.
        names: Of all classes.
        palette: RGB of all classes.
        present: Labels to be listed; None for all.
    """
    picture = picture.convert('RGB') if isinstance(picture, Image.Image) else Image.fromarray(np.asarray(picture))
    font = min(max(_LEAST_FONT, picture.height // _LINES_OF_A_PICTURE), _LARGEST_FONT)
    # A low picture would make a legend of many columns.
    laid_out = legend(names, palette, present, max(picture.height, picture.width, 12 * font), font)
    canvas = Image.new('RGB', (picture.width + laid_out.size[0], max(picture.height, laid_out.size[1])), _WHITE)
    canvas.paste(picture, (0, 0))
    canvas.paste(laid_out.draw(), (picture.width, 0))
    return canvas
