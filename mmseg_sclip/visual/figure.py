"""Figures: pictures in rows and columns with titles, a legend of classes, and a scale, through matplotlib."""

from __future__ import annotations

import io
import threading
import warnings
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from textwrap import fill
from typing import NamedTuple

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Patch
from PIL import Image

from ..files import MARK
from ..outputs import OutputFolder
from .fonts import families, is_readable
from .pixels import HEAT, NO_CLASS_COLOUR

_WIDTH, _LEAST, _MOST = 12, 2.4, 4.5  # inches: of all columns, and the bounds of a picture's longer side
_FONT = 9  # points
_LETTER, _LINE, _GAP = 0.56 * _FONT / 72, 1.3 * _FONT / 72, 0.08  # inches: of a letter, of a line, between pictures
_LEGEND_WIDTH, _LEGEND_HEIGHT = 2.5, 5  # inches of an entry, and of a column beside a low figure
_LEAST_DPI = 110
_MOST_PIXELS = 8000  # of a side of the figure
_LOCK = threading.Lock()  # matplotlib is not made for threads


class Panel(NamedTuple):
    """One picture of a figure: (H, W, 3) uint8 RGB, and what stands above it."""

    picture: np.ndarray
    title: str = ''


def class_legend(names: Sequence[str], palette: Sequence[Sequence[int]], present: Collection[int]) -> list[Patch]:
    """Legend entries of the classes that occur.

    Args:
        names: Of all classes, in any script.
        palette: RGB of all classes.
        present: Labels that occur; all that are not a class share one entry, 'no class'.
    """
    entries = []
    for label in sorted(label for label in present if 0 <= label < len(names)):
        # Without a font all names look alike, so the number is added.
        name = names[label] if is_readable(names[label]) else f'{names[label]} (label {label})'
        entries.append(legend_entry(name, palette[label]))
    strange = any(not 0 <= label < len(names) for label in present)
    return [*entries, *[legend_entry('no class', NO_CLASS_COLOUR)] * strange]


def legend_entry(name: str, colour: Sequence[int], hatch: str = '') -> Patch:
    """A field of a colour, RGB in 0..255, and its name."""
    return Patch(facecolor=np.divide(colour, 255), edgecolor='black' if hatch else 'grey', hatch=hatch, label=name)


def draw(
    rows: Sequence[Sequence[Panel | None]],
    title: str = '',
    legend: Sequence[Patch] = (),
    scale: str | None = None,
    max_side: int | None = None,
) -> Figure:
    """A figure of panels.

    Args:
        rows: Panels; all rows have the same length, and None leaves a cell empty.
        title: Above everything.
        legend: Fields and names, on the right.
        scale: What the colours of heat mean from 0 to 1, below everything; None where there is no heat.
        max_side: Larger pictures are made smaller until their longer side has this many pixels.
    """
    panels = [panel for row in rows for panel in row if panel is not None]
    side = min(max(_WIDTH / len(rows[0]), _LEAST), _MOST)
    sizes = np.zeros((len(rows), len(rows[0]), 2))  # (height, width) of each picture in inches
    for place, panel in _filled(rows):
        sizes[place] = np.array(panel.picture.shape[:2]) * side / max(panel.picture.shape[:2])
    widths = np.maximum(sizes[..., 1].max(axis=0), 0.7 * side)  # room for words above a narrow picture
    titles = {(i, j): _fill(panel.title, widths[j]) for (i, j), panel in _filled(rows)}
    above = np.full(len(rows), _GAP)
    for (i, _), text in titles.items():
        above[i] = max(above[i], _GAP + _LINE * len(text.splitlines()))
    lefts = np.cumsum(widths + _GAP) - widths - _GAP
    bottoms = np.cumsum(above + sizes[..., 0].max(axis=1))  # below the top
    width, height = lefts[-1] + widths[-1], bottoms[-1]
    words = [title, scale or '', *titles.values(), *(entry.get_label() for entry in legend)]
    style = dict(fontfamily=families(words), fontsize=_FONT, parse_math=False)
    pixels = max(max(panel.picture.shape[:2]) for panel in panels)
    dpi = min(pixels, max_side or pixels) / side
    dpi *= np.ceil(_LEAST_DPI / dpi)  # small pictures are enlarged by a whole number
    large = dpi > _MOST_PIXELS / max(width, height)
    with _LOCK:
        figure = Figure((width, height), dpi=min(dpi, _MOST_PIXELS / max(width, height)))
        for (i, j), panel in _filled(rows):
            box = (lefts[j] / width, 1 - bottoms[i] / height, widths[j] / width, sizes[i, j, 0] / height)
            cell = figure.add_axes(box)
            cell.set(xticks=[], yticks=[])
            cell.spines[:].set(color='grey', linewidth=0.4)  # white pictures have an edge
            cell.imshow(_shrink(panel.picture, max_side), interpolation='antialiased' if large else 'nearest')
            cell.set_title(titles[i, j], pad=3, **style)
        if title:
            figure.text(0, 1 + _GAP / height, _fill(title, width), va='bottom', **style)
        if scale is not None:
            bar = figure.add_axes((0, -0.25 / height, 1, 0.12 / height))
            figure.colorbar(ScalarMappable(Normalize(0, 1), HEAT), bar, orientation='horizontal')
            bar.tick_params(labelsize=_FONT)
            bar.set_xlabel(_fill(scale, width), **style)
        if legend:
            _add_legend(figure, legend, style['fontfamily'])
    return figure


def save(figure: Figure, folder: OutputFolder, name: str, needed: bool = True) -> None:
    """Write a figure as PNG or PDF, as the suffix of the name says.

    Args:
        figure: From `draw`.
        folder: Where it goes.
        name: Of the file.
        needed: False lets a long run go on without a file that cannot be written, see `OutputFolder.attempt`.

    Raises:
        OutputError: It cannot be written, or a file that is not ours has the name.
    """
    suffix = Path(name).suffix
    # Without the date, so that the same figure is the same file.
    how = dict(metadata=dict(Creator=MARK, CreationDate=None))
    if suffix == '.png':
        how = dict(metadata=dict(Software=MARK), pil_kwargs=dict(compress_level=3))  # half the time, little more space
    with (folder.write if needed else folder.attempt)(name) as unfinished:
        _render(figure, unfinished, format=suffix[1:], **how)


def to_pixels(figure: Figure) -> np.ndarray:
    """A figure as (H, W, 3) uint8 RGB."""
    buffer = io.BytesIO()
    _render(figure, buffer, format='png')
    return np.asarray(Image.open(buffer).convert('RGB'))


def _render(figure: Figure, to: Path | io.BytesIO, **options: object) -> None:
    with _LOCK, warnings.catch_warnings():
        warnings.filterwarnings('ignore', 'Glyph')  # `families` has said it
        # The box of 'tight', which would resample every picture twice.
        box = figure.get_tightbbox(FigureCanvasAgg(figure).get_renderer()).padded(_GAP)
        figure.savefig(to, dpi=figure.dpi, bbox_inches=box, **options)


def _filled(rows: Sequence[Sequence[Panel | None]]) -> Iterator[tuple[tuple[int, int], Panel]]:
    """Each panel with its row and column."""
    for i, row in enumerate(rows):
        for j, panel in enumerate(row):
            if panel is not None:
                yield (i, j), panel


def _fill(text: str, width: float) -> str:
    """A text in lines that fit into a width in inches."""
    return '\n'.join(fill(line, max(8, int(width / _LETTER))) for line in text.splitlines())


def _add_legend(figure: Figure, entries: Sequence[Patch], fonts: Sequence[str]) -> None:
    """On the right of the pictures, in as many columns as the figure's height asks for."""
    for entry in entries:
        entry.set_label(_fill(entry.get_label(), _LEGEND_WIDTH))
    lines = sum(entry.get_label().count('\n') + 1 for entry in entries)
    fitting = max(*figure.get_size_inches(), _LEGEND_HEIGHT) / (_LINE * 1.3)
    legend = figure.legend(
        handles=entries,
        loc='upper left',
        bbox_to_anchor=(1, 1),
        ncols=int(np.ceil(lines / fitting)),
        prop=FontProperties(family=list(fonts), size=_FONT),
        frameon=False,
    )
    for text in legend.get_texts():
        text.set_parse_math(False)


def _shrink(picture: np.ndarray, max_side: int | None) -> np.ndarray:
    if max_side is None or max(picture.shape[:2]) <= max_side:
        return picture
    image = Image.fromarray(picture)
    image.thumbnail((max_side, max_side), Image.Resampling.BOX)
    return np.asarray(image)
