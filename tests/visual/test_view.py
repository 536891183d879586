"""Where patches lie in a picture."""

import numpy as np
import pytest
import torch

from mmseg_sclip.visual.view import View, nearest_view, whole_view


def naive_enlarge(view, weights):
    """Pixel by pixel, in the words of the docstring."""
    out = np.full(view.image, np.nan)
    for place in np.ndindex(*view.image):
        corners, share = [[], []], 1
        for axis, at in enumerate(place):
            start, end = view.window[2 * axis : 2 * axis + 2]
            network = (at + 0.5) * view.network[axis] / view.image[axis]
            share *= start <= network < end
            patch = min(max((network - start) / view.patch[axis] - 0.5, 0), view.grid[axis] - 1)
            low = int(patch)
            corners[axis] = [(low, 1 - patch + low), (min(low + 1, view.grid[axis] - 1), patch - low)]
        if share:
            out[place] = sum(weights[r, c] * y * x for r, y in corners[0] for c, x in corners[1])
    return out


@pytest.mark.parametrize(
    'view',
    [
        View((40, 60), (40, 60), (0, 40, 0, 60), (8, 8)),
        View((40, 60), (26, 39), (0, 26, 0, 39), (8, 8)),  # resized, and sides that are not multiples of the patch
        View((40, 60), (80, 120), (16, 48, 40, 80), (16, 8)),
    ],
)
def test_enlarge(view):
    weights = torch.rand(view.grid, generator=torch.Generator().manual_seed(0))
    values = view.enlarge(weights)
    assert np.allclose(values, naive_enlarge(view, weights.numpy()), atol=1e-5, equal_nan=True)
    assert np.array_equal(view.inside(), ~values.isnan())


def test_tokens_count_row_by_row():
    view = View((64, 64), (64, 64), (16, 48, 8, 56), (8, 16))
    assert view.grid == (4, 3)
    assert [view.token(point) for point in ((8, 16), (23, 23), (24, 16), (8, 24), (55, 47))] == [0, 0, 1, 3, 11]
    rest = whole_view((20, 20), (20, 20), (8, 8))  # pixels beyond the last whole patch belong to it
    assert rest.grid == (2, 2) and rest.token((19, 19)) == rest.token((15, 15)) == 3


@pytest.mark.parametrize('point', [(0, 0), (59, 39), (30, 20), (44, 3), (29, 19)])
def test_the_nearest_window(point):
    whole = whole_view((40, 60), (80, 120), (8, 8))
    y, x = 2 * (point[1] + 0.5), 2 * (point[0] + 0.5)
    windows = [(t, t + 48, c, c + 48) for t in (0, 24, 32) for c in (0, 24, 48, 72)]
    expected = min(windows, key=lambda w: ((w[0] + w[1]) / 2 - y) ** 2 + ((w[2] + w[3]) / 2 - x) ** 2)
    view = nearest_view(whole, point, (48, 48), (24, 24))
    assert view.window == expected and view.inside()[point[1], point[0]]
    assert not view.is_whole and whole.is_whole
