"""Figures: what stands where, in which colours, and as which files."""

from itertools import combinations

import numpy as np
import pytest
from matplotlib import font_manager
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex

from mmseg_sclip.datasets.palette import distinct_palette
from mmseg_sclip.files import is_ours
from mmseg_sclip.outputs import OutputFolder
from mmseg_sclip.visual import fonts
from mmseg_sclip.visual.figure import Panel, class_legend, draw, legend_entry, save, to_pixels

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)
LONG = 'a very long name that nobody would ever give to a class of objects, wherever it stands'


def plain(height=50, width=50, colour=RED):
    return np.full((height, width, 3), colour, np.uint8)


def boxes(figure):
    """The box in pixels of everything that must not overlap: pictures, titles, the legend, the scale."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    things = [cell.images[0] for cell in figure.axes if cell.images and not cell.get_xlabel()]
    things += [cell.title for cell in figure.axes if cell.get_title()]
    things += [*figure.texts, *figure.legends, *(cell for cell in figure.axes if cell.get_xlabel())]
    return [thing.get_tightbbox(renderer) for thing in things]


@pytest.mark.slow
@pytest.mark.parametrize(
    'size, rows, columns, classes',
    [((240, 320), 1, 1, 171), ((320, 240), 2, 3, 1), ((20, 400), 4, 3, 60), ((1, 1), 1, 12, 0)],
)
def test_nothing_overlaps(size, rows, columns, classes):
    names = [f'class {number}' for number in range(classes)]
    names[1:2] = [LONG] * (classes > 1)
    legend = class_legend(names, distinct_palette(classes), range(classes))
    panels = [[Panel(plain(*size), f'{LONG[: 30 * i]}\nrow {i}, {j}') for j in range(columns)] for i in range(rows)]
    panels[-1][-1] = None if rows > 1 else panels[-1][-1]
    figure = draw(panels, LONG, legend, scale=LONG if rows == 2 else None)
    for one, other in combinations(boxes(figure), 2):
        overlap = min(one.x1, other.x1) - max(one.x0, other.x0), min(one.y1, other.y1) - max(one.y0, other.y0)
        assert min(overlap) < 1, (one, other)  # a soft edge may touch


@pytest.mark.slow
def test_large_figures_have_a_limit():
    large = draw([[Panel(plain(1200, 1800))] * 8] * 8)
    assert large.dpi * max(large.get_size_inches()) == pytest.approx(8000)


def test_the_legend_has_what_occurs():
    legend = class_legend(['a', 'b', '  $c$', 'd'], [RED, GREEN, BLUE, RED], {0, 2, 255})
    figure = draw([[Panel(plain())]], legend=[*legend, legend_entry('wrong', (130, 130, 130), '////')])
    (drawn,) = figure.legends
    assert [text.get_text() for text in drawn.get_texts()] == ['a', '  $c$', 'no class', 'wrong']
    fields = [(to_hex(patch.get_facecolor()), patch.get_hatch() or '') for patch in drawn.get_patches()]
    assert fields == [('#ff0000', ''), ('#0000ff', ''), ('#ffffff', ''), ('#828282', '////')]
    assert not any(text.get_parse_math() for text in drawn.get_texts())
    assert (to_pixels(figure) == BLUE).all(axis=-1).sum() > 50
    assert class_legend(['a'], [RED], []) == []


@pytest.mark.slow
@pytest.mark.parametrize('suffix, start', [('png', b'\x89PNG'), ('pdf', b'%PDF')])
def test_files_are_ours_and_have_no_date(suffix, start, tmp_path):
    folder, path = OutputFolder(tmp_path, '--out-dir'), tmp_path / f'figure.{suffix}'
    many = [f'class {number} {chr(192 + number)}' for number in range(100)]  # many letters make a long table in a PDF
    figure = draw([[Panel(plain(20, 30), 'x')] * 2], legend=class_legend(many, distinct_palette(100), range(100)))
    save(figure, folder, path.name)
    before = path.read_bytes()
    assert is_ours(path) and before.startswith(start)
    save(figure, folder, path.name)
    assert path.read_bytes() == before
    path.write_bytes(b'mine')
    with pytest.raises(OSError, match='not replaced'):
        save(figure, folder, path.name)


def test_scripts_with_and_without_a_font(monkeypatch, tmp_path):
    """The number says which class it is, where it is needed. One of matplotlib's fonts stands in for a Chinese one."""
    installed = []
    monkeypatch.setattr(fonts, '_installed', lambda: list(map(str, installed)))
    legend = class_legend(['cat', '猫', 'кот γάτα قطة'], [RED, BLUE, GREEN], range(3))
    assert [entry.get_label() for entry in legend] == ['cat', '猫 (label 1)', 'кот γάτα قطة']
    own = font_manager.findfont(fonts.OWN)
    other = next(path for path in font_manager.fontManager.ttflist if path.name == 'STIXGeneral').fname
    strange = min(fonts._letters(other) - fonts._letters(own))
    without = to_pixels(draw([[Panel(plain(), strange)]], legend=legend))
    (tmp_path / 'broken.ttf').write_bytes(b'no font')
    installed += [tmp_path / 'broken.ttf', other]
    assert fonts.families(['cat', strange]) == [fonts.OWN, 'STIXGeneral']
    assert fonts.families(['cat']) == [fonts.OWN] and fonts.is_readable(strange)
    with_font = to_pixels(draw([[Panel(plain(), strange)]], legend=legend))
    assert with_font.shape != without.shape or (with_font != without).any()
