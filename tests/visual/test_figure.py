"""Figures: what stands where, in which colours, and as which files."""

from itertools import combinations

import numpy as np
import pytest
from matplotlib import font_manager
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from PIL import Image

from mmseg_sclip.datasets.palette import distinct_palette
from mmseg_sclip.files import is_ours
from mmseg_sclip.outputs import OutputFolder
from mmseg_sclip.visual import fonts
from mmseg_sclip.visual.figure import Panel, class_legend, draw, legend_entry, save, to_pixels

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)
LONG = 'a very long name that nobody would ever give to a class of objects, wherever it stands'


def plain(height, width, colour=RED):
    return np.full((height, width, 3), colour, np.uint8)


def boxes(figure):
    """The box in pixels of everything that must not overlap: pictures, titles, the legend, the scale."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    things = [cell.images[0] for cell in figure.axes if cell.images and not cell.get_xlabel()]
    things += [cell.title for cell in figure.axes if cell.get_title()]
    things += [*figure.texts, *figure.legends]
    things += [cell for cell in figure.axes if cell.get_xlabel()]
    return [thing.get_tightbbox(renderer) for thing in things]


@pytest.mark.parametrize(
    'size, rows, columns, classes',
    [((240, 320), 1, 1, 171), ((320, 240), 2, 3, 1), ((20, 400), 1, 2, 21), ((20, 400), 4, 3, 60), ((1, 1), 1, 12, 0)],
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
    assert max(to_pixels(figure).shape) < 6000


def test_pictures_stand_in_rows_and_columns():
    colours = [[RED, GREEN], [BLUE, None]]
    rows = [
        [colour and Panel(plain(100, 150, colour), f'{i}{j}') for j, colour in enumerate(row)]
        for i, row in enumerate(colours)
    ]
    drawn = to_pixels(draw(rows, 'a title'))

    def middle(colour):
        return np.argwhere((drawn == colour).all(axis=-1)).mean(axis=0)

    red, green, blue = middle(RED), middle(GREEN), middle(BLUE)
    assert abs(red[0] - green[0]) < 2 < green[1] - red[1]
    assert abs(red[1] - blue[1]) < 2 < blue[0] - red[0]
    share = [(drawn == colour).all(axis=-1).sum() for colour in (RED, GREEN, BLUE)]
    assert max(share) - min(share) < 0.02 * max(share)


def test_resolution():
    assert to_pixels(draw([[Panel(plain(600, 900))]])).shape[1] == pytest.approx(900, abs=40)  # its own
    assert to_pixels(draw([[Panel(plain(600, 900))]], max_side=600)).shape[1] == pytest.approx(600, abs=40)
    assert to_pixels(draw([[Panel(plain(60, 100))]])).shape[1] == pytest.approx(500, abs=40)  # five times
    large = draw([[Panel(plain(1200, 1800))] * 8] * 8)
    assert large.dpi * max(large.get_size_inches()) == pytest.approx(8000)


def test_the_legend_has_what_occurs():
    legend = class_legend(['a', 'b', '  $c$', 'd'], [RED, GREEN, BLUE, RED], {0, 2, 255})
    figure = draw([[Panel(plain(100, 100))]], legend=legend)
    (drawn,) = figure.legends
    assert [text.get_text() for text in drawn.get_texts()] == ['a', '  $c$', 'no class']
    assert [to_hex(patch.get_facecolor()) for patch in drawn.get_patches()] == ['#ff0000', '#0000ff', '#ffffff']
    assert not any(text.get_parse_math() for text in drawn.get_texts())
    pixels = to_pixels(figure)
    assert (pixels == BLUE).all(axis=-1).sum() > 50
    assert class_legend(['a'], [RED], []) == []


def test_a_scale_says_what_heat_means():
    figure = draw([[Panel(plain(100, 100))]], scale='probability')
    bar = figure.axes[-1]
    assert bar.get_xlabel() == 'probability' and bar.get_xlim() == (0, 1)
    below = to_pixels(figure)[-90:].reshape(-1, 3).astype(int)
    for end in ([48, 18, 59], [122, 4, 3]):  # of turbo
        assert (np.abs(below - end).max(axis=-1) < 12).sum() > 5


@pytest.mark.parametrize('suffix', ['png', 'pdf'])
def test_files_are_ours_and_whole(suffix, tmp_path, monkeypatch):
    folder, name = OutputFolder(tmp_path, '--out-dir'), f'figure.{suffix}'
    many = [f'class {number} {chr(192 + number)}' for number in range(100)]  # many letters make a long table in a PDF
    figure = draw([[Panel(plain(20, 30), 'x')] * 2], legend=class_legend(many, distinct_palette(100), range(100)))
    save(figure, folder, name)
    path = tmp_path / name
    before = path.read_bytes()
    assert is_ours(path) and before.startswith(b'%PDF' if suffix == 'pdf' else b'\x89PNG')
    save(figure, folder, name)
    assert path.read_bytes() == before  # no date in it

    def full(*args, **kwargs):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(figure, 'savefig', full)
    with pytest.raises(OSError, match=rf'Cannot write .*{name} \(--out-dir\): No space left on device'):
        save(figure, folder, name)
    assert path.read_bytes() == before and [file.name for file in tmp_path.iterdir()] == [name]
    path.write_bytes(b'mine')
    with pytest.raises(OSError, match='not replaced'):
        save(figure, folder, name)
    assert path.read_bytes() == b'mine'


@pytest.fixture
def only_fonts(monkeypatch):
    """`only_fonts(paths)`: these stand in for the fonts of the system."""

    def install(paths):
        monkeypatch.setattr(fonts, '_installed', lambda: [str(path) for path in paths])

    return install


def test_scripts_without_a_font(only_fonts):
    """The number says which class it is, and only where it is needed."""
    only_fonts([])
    legend = class_legend(['cat', '猫', 'кот γάτα قطة'], [RED, BLUE, GREEN], range(3))
    assert [entry.get_label() for entry in legend] == ['cat', '猫 (label 1)', 'кот γάτα قطة']
    to_pixels(draw([[Panel(plain(50, 50), '猫')]], legend=legend))


def test_an_installed_font_is_used_where_it_alone_has_the_script(only_fonts, tmp_path):
    """Another font of matplotlib's stands in for a Chinese one: it has letters that the first one lacks."""
    own = font_manager.findfont(fonts.OWN)
    other = next(path for path in font_manager.fontManager.ttflist if path.name == 'STIXGeneral').fname
    strange = min(fonts._letters(other) - fonts._letters(own))
    (tmp_path / 'broken.ttf').write_bytes(b'no font')
    only_fonts([tmp_path / 'broken.ttf', other])
    assert fonts.families(['cat', strange]) == [fonts.OWN, 'STIXGeneral']
    assert fonts.families(['cat']) == [fonts.OWN]
    assert fonts.is_readable(strange)
    with_font = to_pixels(draw([[Panel(plain(50, 50), strange)]]))
    only_fonts([])
    without = to_pixels(draw([[Panel(plain(50, 50), strange)]]))
    assert with_font.shape != without.shape or (with_font != without).any()


def test_hatched_entries():
    figure = draw([[Panel(plain(100, 100))]], legend=[legend_entry('wrong', (130, 130, 130), '////')])
    assert figure.legends[0].get_patches()[0].get_hatch() == '////'
    image = Image.fromarray(to_pixels(figure)).convert('L')
    assert image.size[0] > 400
