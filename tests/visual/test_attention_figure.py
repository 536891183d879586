"""What the figure of attention maps shows."""

import numpy as np
import pytest
import torch

from mmseg_sclip.visual.attention import AttentionMaps, AttentionRow
from mmseg_sclip.visual.attention_figure import attention_figure
from mmseg_sclip.visual.pixels import POINT_COLOUR, heat, mark
from mmseg_sclip.visual.view import View

SIZE, POINTS = (240, 320), [(40, 30), (300, 200)]
WHOLE, WINDOWS = [(0, 120, 0, 160)] * 2, [(0, 120, 0, 120), (0, 120, 40, 160)]
PIXELS = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)


def make(windows, rows=2, points=POINTS, low=0.1, high=0.5):
    """Rows of maps: one bright patch each, of the row's number."""
    views = [View(SIZE, (120, 160), window, (8, 8)) for window in windows[: len(points)]]
    found = []
    for number in range(rows):
        weights = [torch.full(view.grid, low) for view in views]
        for each in weights:
            each[number % 10, 7] = high
        found.append(AttentionRow(f'Attention{number // 12}', 12, f'head {number % 12 + 1} of 12', weights))
    return AttentionMaps(points, views, found)


def panels(figure):
    """Title and pixels of each picture, in the order of reading, without the scale."""
    return [(cell.get_title(), np.asarray(cell.images[0].get_array())) for cell in figure.axes[:-1]]


@pytest.mark.parametrize('windows', [WHOLE, WINDOWS])
def test_points_and_their_maps(windows):
    """Outside the window the image is pale."""
    maps = make(windows)
    figure = attention_figure(PIXELS, maps, 'photo.jpg.')
    shown = panels(figure)
    texts = [f'Attention0\nlayer 12, head {head} of 12\nmax 0.5' for head in (1, 1, 2, 2)]
    assert [title for title, _ in shown] == ['point 40,30', 'point 300,200', *texts]
    for index, (_, picture) in enumerate(shown):
        x, y = POINTS[index % 2]
        assert (picture[y, x] == POINT_COLOUR).all()
        if windows is WINDOWS and not index % 2:
            assert np.abs(picture[:, 240:] - (0.35 * PIXELS[:, 240:] + 0.65 * 255)).max() <= 1
    assert np.array_equal(shown[0][1][60:, :240], PIXELS[60:, :240])  # below the mark
    for row, column in np.ndindex(2, 2):
        values = maps.views[column].enlarge(maps.rows[row].weights[column]).numpy()
        assert np.array_equal(shown[2 + 2 * row + column][1], mark(heat(PIXELS, values, 0.5), POINTS[column]))
    assert "each map's own maximum" in figure.axes[-1].get_xlabel()
    title = figure.texts[0].get_text().replace('\n', ' ')
    if windows is WHOLE:
        assert title == 'photo.jpg. Whole image at once: 160 x 120 pixels in the network, 20 x 15 patches.'
    else:
        assert title.startswith('photo.jpg. One window of 120 x 120 pixels') and title.endswith('the rest is pale.')


@pytest.mark.slow
@pytest.mark.parametrize('rows, points', [(24, 2), (48, 1), (1, 1)])
def test_many_maps_are_wrapped(rows, points):
    """Also maps of zeros, and smaller pictures."""
    figure = attention_figure(PIXELS, make(WHOLE, rows, POINTS[:points], 0, 0), max_side=80)
    shown = panels(figure)
    assert len(shown) == (rows + 1) * points and shown[-1][0].endswith('max 0')
    assert {picture.shape for _, picture in shown} == {(60, 80, 3)}
    width, height = figure.get_size_inches()
    assert 0.4 < width / height < 4.5
    places = [cell.get_position() for cell in figure.axes[: 2 * points]]
    assert len({(round(place.x0, 3), round(place.y0, 3)) for place in places}) == 2 * points
