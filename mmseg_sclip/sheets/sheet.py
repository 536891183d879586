"""A figure of several pictures, laid out to the pixel, as PNG and PDF."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.figure import Figure
from matplotlib.font_manager import get_font
from matplotlib.patches import Rectangle
from PIL import Image, ImageDraw

from ..pictures import BLACK, Legend, draw_text, text_size, write_atomically

_FONT = Path(matplotlib.get_data_path()) / 'fonts' / 'ttf' / 'DejaVuSans.ttf'  # ships with matplotlib
_POINT = 72  # of these are an inch: a pixel is a point of the PDF


class Text(NamedTuple):
    """One line of text whose upper left corner is at (x, y)."""

    x: int
    y: int
    text: str
    font: int


class Placed(NamedTuple):
    """A picture whose upper left pixel is at (x, y); `row` and `column` are None outside the grid."""

    x: int
    y: int
    picture: np.ndarray
    row: int | None = None
    column: int | None = None


@dataclass
class Sheet:
    """A figure, laid out to the pixel.

    Attributes:
        size: (width, height).
        factor: Pictures are enlarged by this whole number.
        pictures: Already enlarged.
        texts: Everything written, but for the legend.
        legend: With its place (x, y), or None.
    """

    size: tuple[int, int] = (0, 0)
    factor: int = 1
    pictures: list[Placed] = field(default_factory=list)
    texts: list[Text] = field(default_factory=list)
    legend: tuple[int, int, Legend] | None = None

    def at(self, row: int, column: int) -> Placed:
        """The picture in a cell of the grid."""
        return next(placed for placed in self.pictures if (placed.row, placed.column) == (row, column))

    def draw(self) -> Image.Image:
        """The sheet as pixels, on white."""
        canvas = Image.new('RGB', self.size, (255, 255, 255))
        for placed in self.pictures:
            canvas.paste(Image.fromarray(placed.picture), (placed.x, placed.y))
        draw = ImageDraw.Draw(canvas)
        for text in self.texts:
            draw_text(draw, (text.x, text.y), text.text, text.font, BLACK)
        if self.legend is not None:
            x, y, entries = self.legend
            canvas.paste(entries.draw(), (x, y))
        return canvas

    def save(self, path: Path) -> Path:
        """Write a PNG, or a PDF whose pictures lose nothing and whose text stays text; whole or not at all.

        Args:
            path: The suffix chooses.

        Raises:
            OSError: The file cannot be written.
        """
        with write_atomically(path) as unfinished:
            if path.suffix.lower() == '.pdf':
                self._save_pdf(unfinished)
            else:
                self.draw().save(unfinished)
        return path

    def _save_pdf(self, path: Path) -> None:
        width, height = self.size
        figure = Figure((width / _POINT, height / _POINT), dpi=_POINT)
        FigureCanvasPdf(figure)

        def write(x: int, y: int, text: str, font: int) -> None:
            if all(get_font(_FONT).get_char_index(ord(character)) for character in text):
                # `draw_text` has its base line `font` pixels below the top.
                place = x / width, 1 - (y + font) / height
                figure.text(*place, text, font=_FONT, fontsize=font, va='baseline', parse_math=False)
            else:  # in a script of another font: as pixels, as in the PNG
                picture = Image.new('RGB', text_size(text, font), (255, 255, 255))
                draw_text(ImageDraw.Draw(picture), (0, 0), text, font, BLACK)
                figure.figimage(np.asarray(picture), x, height - y - picture.height)

        for placed in self.pictures:
            figure.figimage(placed.picture, placed.x, height - placed.y - len(placed.picture))
        for text in self.texts:
            write(*text)
        if self.legend is not None:
            x, y, laid_out = self.legend
            for entry in laid_out.entries:
                left, top, right, bottom = entry.swatch
                corner = ((x + left) / width, 1 - (y + bottom) / height)
                colour = [value / 255 for value in entry.colour]
                sides = ((right - left) / width, (bottom - top) / height)
                figure.patches.append(
                    Rectangle(
                        corner, *sides, facecolor=colour, edgecolor='grey', transform=figure.transFigure, figure=figure
                    )
                )
                for number, line in enumerate(entry.lines):
                    write(
                        x + entry.text[0],
                        y + entry.text[1] + number * text_size('', laid_out.font)[1],
                        line,
                        laid_out.font,
                    )
        # Without the date, so that the same figure is the same file.
        figure.savefig(path, format='pdf', dpi=_POINT, metadata=dict(CreationDate=None))
