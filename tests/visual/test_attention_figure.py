"""What the figure of attention maps shows."""

import numpy as np
import pytest
import torch

from mmseg_sclip.visual.attention import AttentionMaps, AttentionRow
from mmseg_sclip.visual.attention_figure import attention_figure, describe_views
from mmseg_sclip.visual.figure import to_pixels
from mmseg_sclip.visual.pixels import POINT_COLOUR, heat, mark
from mmseg_sclip.visual.view import View

SIZE, POINTS = (240, 320), [(40, 30), (300, 200)]
WHOLE, WINDOWS = [(0, 120, 0, 160)] * 2, [(0, 120, 0, 120), (0, 120, 40, 160)]


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)


def make(windows, rows=2, points=POINTS):
    """Rows of maps: one bright patch each, of the row's number."""
    views = [View(SIZE, (120, 160), window, (8, 8)) for window in windows[: len(points)]]
    found = []
    for number in range(rows):
        weights = [torch.full(view.grid, 0.1) for view in views]
        for each in weights:
            each[number % 10, 7] = 0.5
        found.append(AttentionRow(f'Strategy{number // 12}', 12, f'head {number % 12 + 1} of 12', weights))
    return AttentionMaps(points, views, found)


def panels(figure):
    """Title and pixels of each picture, in the order of reading, without the scale."""
    return [(cell.get_title(), np.asarray(cell.images[0].get_array())) for cell in figure.axes[:-1]]


@pytest.mark.parametrize('windows', [WHOLE, WINDOWS])
def test_points_and_their_maps(pixels, windows):
    maps = make(windows)
    shown = panels(attention_figure(pixels, maps, 'photo.jpg.'))
    texts = [f'Strategy0\nlayer 12, head {head} of 12\nmax 0.5' for head in (1, 1, 2, 2)]
    assert [title for title, _ in shown] == ['point 40,30', 'point 300,200', *texts]
    for index, (_, picture) in enumerate(shown):
        x, y = POINTS[index % 2]
        assert (picture[y, x] == POINT_COLOUR).all()
    for row in (0, 1):
        for column, (window, point) in enumerate(zip(windows, POINTS, strict=True)):
            picture = shown[2 + 2 * row + column][1]
            values = maps.views[column].enlarge(maps.rows[row].weights[column]).numpy()
            assert np.array_equal(picture, mark(heat(pixels, values, 0.5), point))
            y, x = 2 * 8 * row + 8, 2 * (window[2] + 7 * 8) + 8  # the middle of the bright patch
            assert values[y, x] == pytest.approx(0.5, abs=0.06)


def test_outside_the_window_is_the_pale_image(pixels):
    for _, picture in panels(attention_figure(pixels, make(WINDOWS)))[::2]:
        assert np.abs(picture[:, 240:] - (0.35 * pixels[:, 240:] + 0.65 * 255)).max() <= 1
    plain = panels(attention_figure(pixels, make(WINDOWS)))[0][1].copy()
    plain[20:42, 30:52] = pixels[20:42, 30:52]  # but for the mark
    assert np.array_equal(plain[:, :240], pixels[:, :240])


def test_words(pixels):
    figure = attention_figure(pixels, make(WINDOWS), 'photo.jpg, ViT-B-16.')
    title = figure.texts[0].get_text().replace('\n', ' ')
    assert title.startswith('photo.jpg, ViT-B-16. One window of 120 x 120 pixels')
    assert title.endswith('out of 160 x 120 in the network; the rest is pale.')
    assert "each map's own maximum" in figure.axes[-1].get_xlabel()
    whole = describe_views(make(WHOLE).views)
    assert whole == 'Whole image at once: 160 x 120 pixels in the network, 20 x 15 patches.'


@pytest.mark.parametrize('rows, points', [(12, 1), (24, 2), (48, 1), (1, 1)])
def test_many_maps_are_wrapped(pixels, rows, points):
    figure = attention_figure(pixels, make(WHOLE, rows, POINTS[:points]))
    assert len(panels(figure)) == (rows + 1) * points
    width, height = figure.get_size_inches()
    assert 0.4 < width / height < 4.5
    places = [cell.get_position() for cell in figure.axes[: 2 * points]]
    assert len({(round(place.x0, 3), round(place.y0, 3)) for place in places}) == 2 * points


def test_smaller_pictures(pixels):
    assert panels(attention_figure(pixels, make(WHOLE), max_side=80))[3][1].shape == (60, 80, 3)


def test_a_map_of_zeros_is_drawn(pixels):
    maps = make(WHOLE)
    for row in maps.rows:
        row.weights = [torch.zeros_like(each) for each in row.weights]
    figure = attention_figure(pixels, maps)
    assert panels(figure)[2][0].endswith('max 0')
    to_pixels(figure)
