"""What the figure of attention maps shows."""

import matplotlib
import numpy as np
import pytest
import torch

from mmseg_sclip.attention_maps import AttentionMaps, AttentionRow, View, attention_figure
from mmseg_sclip.attention_maps.figure import MARK, OPACITY, describe_views, mark

SIZE, POINTS = (240, 320), [(40, 30), (300, 200)]
WINDOWS = [(0, 120, 0, 120), (0, 120, 40, 160)]


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)


def make(windows):
    """Two rows of two maps: one bright patch each, of the row's number."""
    views = [View(SIZE, (120, 160), window, (8, 8)) for window in windows]
    rows = []
    for number, name in enumerate(('First', 'Second')):
        weights = [torch.full(view.grid, 0.1) for view in views]
        for each in weights:
            each[5 + number, 7] = 0.5
        rows.append(AttentionRow(name, 12, 'mean of 12 heads', weights))
    return AttentionMaps(POINTS, views, rows)


def turbo(value):
    return np.array(matplotlib.colormaps['turbo'](value, bytes=True)[:3])


@pytest.mark.parametrize('windows', [[(0, 120, 0, 160)] * 2, WINDOWS])
def test_places_and_colours(pixels, windows):
    sheet = attention_figure(pixels, make(windows), 'photo.jpg.')
    assert sheet.factor == 1
    for row in range(3):
        for column, (x, y) in enumerate(POINTS):
            picture = sheet.at(row, column).picture
            assert picture.shape == (*SIZE, 3)
            assert (picture[y - 1 : y + 2, x - 1 : x + 2] == MARK).all()  # the disc is centred on the point
            for reach, value in ((4, 255), (5, 0)):
                ring = [picture[y, x + reach], picture[y, x - reach], picture[y + reach, x], picture[y - reach, x]]
                assert (np.array(ring) == value).all()
    for row in (1, 2):
        for column, window in enumerate(windows):
            picture = sheet.at(row, column).picture
            y, x = 2 * 8 * (4 + row) + 8, 2 * (window[2] + 7 * 8) + 8  # the middle of the bright patch
            mixed = (1 - OPACITY) * pixels[y, x] + OPACITY * turbo(1.0)
            assert np.abs(picture[y, x] - mixed).max() <= 3  # a pixel has no centre at the patch's
            y, x = 40 if row == 2 else 150, 2 * window[2] + 120  # far from it and from the points
            mixed = (1 - OPACITY) * pixels[y, x] + OPACITY * turbo(0.2)
            assert np.abs(picture[y, x] - mixed).max() <= 4  # 0.2 lies between two of the 256 colours


def test_outside_the_window_is_the_pale_image(pixels):
    sheet = attention_figure(pixels, make(WINDOWS))
    for row in range(3):
        picture = sheet.at(row, 0).picture
        outside = pixels[:, 240:].astype(float)
        assert np.abs(picture[:, 240:] - (0.35 * outside + 0.65 * 255)).max() <= 1
    plain = sheet.at(0, 0).picture.copy()
    plain[24:38, 34:48] = pixels[24:38, 34:48]  # but for the mark
    assert np.array_equal(plain[:, :240], pixels[:, :240])


def test_words(pixels):
    sheet = attention_figure(pixels, make(WINDOWS), 'photo.jpg, ViT-B-16.')
    written = ' '.join(text.text for text in sheet.texts)
    for words in (
        'photo.jpg, ViT-B-16. One window of 120 x 120 pixels',
        'out of 160 x 120 in the network',
        "each map's own maximum",
        'max 0.5',
    ):
        assert words in written
    place = {text.text: text for text in sheet.texts}
    assert place['point 40,30'].x == sheet.at(0, 0).x and place['point 300,200'].x == sheet.at(0, 1).x
    for row, name in enumerate(('image', 'First', 'Second')):
        top = sheet.at(row, 0).y
        assert top < place[name].y < top + SIZE[0]
    assert list(place).index('First') < list(place).index('Second')
    bar = sheet.pictures[-1].picture
    assert bar.shape[1:] == (256, 3)
    assert np.array_equal(bar[0, 0], turbo(0.0)) and np.array_equal(bar[-1, -1], turbo(1.0))


def test_the_whole_image_is_said(pixels):
    assert describe_views(make([(0, 120, 0, 160)] * 2).views) == (
        'Whole image at once: 160 x 120 pixels in the network, 20 x 15 patches.'
    )


def test_max_side(pixels):
    sheet = attention_figure(pixels, make(WINDOWS), max_side=240)
    assert sheet.at(0, 0).picture.shape == (180, 240, 3) or sheet.factor > 1
    assert sheet.at(1, 1).picture.shape[1] == 240 * sheet.factor


@pytest.mark.parametrize('point', [(0, 0), (319, 239)])
def test_marks_in_corners(pixels, point):
    marked = mark(pixels, point)
    assert (marked[point[1], point[0]] == MARK).all()
    assert (marked != pixels).any(-1).sum() < 60


def test_a_map_of_zeros_is_drawn(pixels):
    maps = make(WINDOWS)
    for row in maps.rows:
        row.weights = [torch.zeros_like(each) for each in row.weights]
    picture = attention_figure(pixels, maps).at(1, 0).picture
    assert np.abs(picture[200, 100] - ((1 - OPACITY) * pixels[200, 100] + OPACITY * turbo(0.0))).max() <= 1
