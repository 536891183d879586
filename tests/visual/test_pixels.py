"""Labels, heat and marks as pixels, and label maps as files."""

import cv2
import numpy as np
import pytest
from PIL import Image

from mmseg_sclip.files import is_ours
from mmseg_sclip.outputs import OutputFolder
from mmseg_sclip.visual import pixels
from mmseg_sclip.visual.png import save_label_map

RED, BLACK, OTHER = (255, 0, 0), (0, 0, 0), (1, 2, 3)


def test_labels_in_their_colours_over_an_image():
    colours = pixels.paint(np.array([[0, 1, 255, -1]]), [BLACK, (200, 0, 51)])
    assert colours.tolist() == [[[0, 0, 0], [200, 0, 51], [255, 255, 255], [255, 255, 255]]]
    image = np.full((1, 4, 3), 100, np.uint8)
    assert pixels.blend(image, colours, 0.5)[0, :2].tolist() == [[50, 50, 50], [150, 50, 76]]  # 75.5 rounds to even
    assert pixels.blend(image, colours, 1)[0].tolist() == colours[0].tolist()
    assert (image == 100).all()


def test_heat():
    image = np.full((2, 60, 3), 80, np.uint8)
    values = np.tile(np.linspace(0, 1, 60), (2, 1))
    values[1, 5] = np.nan
    low, high = np.array([48, 18, 59]), np.array([122, 4, 3])  # the ends of turbo, as published
    full = pixels.heat(image, values, high=1, opacity=1)
    np.testing.assert_allclose(full[0, 0], low, atol=1)
    np.testing.assert_allclose(full[0, -1], high, atol=1)
    np.testing.assert_allclose(pixels.heat(image, values, 1, 0.5)[0, -1], (high + 80) / 2, atol=1)
    np.testing.assert_allclose(pixels.heat(image, values, 2, 1)[0, -1], pixels.heat(image, values / 2, 1, 1)[0, -1])
    assert full[1, 5].tolist() == [194, 194, 194]  # 0.35 of the image, 0.65 of white
    assert (pixels.heat(image, np.zeros((2, 60)), high=0, opacity=1) == full[0, 0]).all()


def test_errors_have_no_colour():
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    wrong, ignored = np.zeros((2, 40, 60), bool)
    wrong[:20], ignored[:, :10] = True, True
    shown = pixels.errors(image, wrong, ignored).astype(int)
    assert (shown.max(axis=-1) == shown.min(axis=-1)).all() and (shown[:, :10] == 255).all()
    right, stripes = shown[20:, 10:, 0], shown[:20, 10:, 0]
    np.testing.assert_allclose(right, 0.35 * image[20:, 10:].mean(axis=-1) + 0.65 * 255, atol=1.5)
    assert set(np.unique(stripes)) == {40, 130} and stripes.max() < right.min()
    assert (stripes == 40).mean() == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize('point', [(0, 0), (319, 239), (100, 50)])
def test_a_mark_is_centred_on_its_pixel(point):
    marked = pixels.mark(np.zeros((240, 320, 3), np.uint8), point)
    y, x = np.argwhere((marked == pixels.POINT_COLOUR).all(axis=-1)).T
    assert (marked[point[1], point[0]] == pixels.POINT_COLOUR).all() and marked.any(-1).sum() < 80
    assert point != (100, 50) or (x.mean(), y.mean()) == point


def test_a_label_map_reads_back(tmp_path):
    labels = np.random.RandomState(1).randint(0, 3, (5, 7))
    labels[0, 0] = 255
    folder, path = OutputFolder(tmp_path / 'new'), tmp_path / 'new' / 'labels.png'
    save_label_map(folder, 'labels.png', labels, [BLACK, RED, OTHER])
    read = Image.open(path)
    assert read.mode == 'P' and is_ours(path)
    np.testing.assert_array_equal(np.asarray(read), labels)
    table = np.zeros((256, 3), np.uint8)
    table[:3] = BLACK, RED, OTHER
    np.testing.assert_array_equal(cv2.imread(str(path))[..., ::-1], table[labels])
    with pytest.raises(ValueError, match='300'):
        save_label_map(folder, 'other.png', np.array([[300]]), [])
    assert [file.name for file in path.parent.iterdir()] == ['labels.png']
