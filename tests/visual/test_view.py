"""Where patches lie in a picture."""

import numpy as np
import pytest
import torch

from mmseg_sclip.models.image.windows import WindowGrid
from mmseg_sclip.visual.view import View, nearest_window


def naive_enlarge(view, weights, side):
    """Pixel by pixel, in the words of the docstring."""
    out = np.full(view.image, np.nan)
    for place in np.ndindex(*view.image):
        corners, share = [[], []], 1
        for axis, at in enumerate(place):
            start, end = view.window[2 * axis : 2 * axis + 2]
            network = (at + 0.5) * view.network[axis] / view.image[axis]
            share *= start <= network < end
            last = weights.shape[axis] - 1
            cell = min(max((network - start + view.padding[axis][0]) / side[axis] - 0.5, 0), last)
            low = int(cell)
            corners[axis] = [(low, 1 - cell + low), (min(low + 1, last), cell - low)]
        if share:
            out[place] = sum(weights[r, c] * y * x for r, y in corners[0] for c, x in corners[1])
    return out


PADDED = View((40, 60), (40, 60), (0, 40, 0, 60), (8, 8), ((4, 4), (10, 14)))


@pytest.mark.parametrize(
    'view, grid, side',
    [
        (View((40, 60), (40, 60), (0, 40, 0, 60), (8, 8)), (5, 7), (8, 8)),
        (View((40, 60), (26, 39), (0, 26, 0, 39), (8, 8)), (3, 4), (8, 8)),  # resized, sides no multiples of the patch
        (View((40, 60), (80, 120), (16, 48, 40, 80), (16, 8)), (2, 5), (16, 8)),
        (PADDED, (6, 10), (8, 8.0)),
        (PADDED, (12, 6), (4, 84 / 6)),  # of another network
    ],
)
def test_enlarge(view, grid, side):
    weights = torch.rand(grid, generator=torch.Generator().manual_seed(0))
    values = view.enlarge(weights)
    assert np.allclose(values, naive_enlarge(view, weights.numpy(), side), atol=1e-5, equal_nan=True)
    assert np.array_equal(view.inside(), ~values.isnan())


def test_tokens_count_row_by_row():
    view = View((64, 64), (64, 64), (16, 48, 8, 56), (8, 16))
    assert view.grid == (4, 3)
    assert [view.token(point) for point in ((8, 16), (23, 23), (24, 16), (8, 24), (55, 47))] == [0, 0, 1, 3, 11]
    rest = View((20, 20), (20, 20), (0, 20, 0, 20), (8, 8))  # pixels beyond the last whole patch belong to it
    assert rest.grid == (2, 2) and rest.token((19, 19)) == rest.token((15, 15)) == 3
    assert rest.token((9, 19), (5, 4)) == 4 * 4 + 1 and rest.is_whole
    assert PADDED.grid == (6, 10) and PADDED.token((0, 0)) == 1 and PADDED.token((0, 4), (12, 6)) == 2 * 6


@pytest.mark.parametrize('point', [(0, 0), (59, 39), (30, 20), (44, 3), (29, 19)])
def test_the_nearest_window(point):
    y, x = 2 * (point[1] + 0.5), 2 * (point[0] + 0.5)
    windows = [(t, t + 48, c, c + 48) for t in (0, 24, 32) for c in (0, 24, 48, 72)]
    expected = min(windows, key=lambda w: ((w[0] + w[1]) / 2 - y) ** 2 + ((w[2] + w[3]) / 2 - x) ** 2)
    grid = WindowGrid.cut(80, 120, (48, 48), (24, 24))
    number = nearest_window(grid.windows, point, (40, 60), (80, 120))
    view = View.of((40, 60), (80, 120), grid.places(0)[number], (8, 8))
    assert view.window == expected and view.inside()[point[1], point[0]] and not view.is_whole
