"""What the figure of a comparison shows."""

from types import SimpleNamespace

import numpy as np
import pytest

from mmseg_sclip.comparison import Compared, Subject, compare_figure

RED, GREEN, BLUE, BLACK = (255, 0, 0), (0, 160, 0), (0, 0, 255), (0, 0, 0)
RIGHT, WRONG, WHITE = (0, 114, 178), (213, 94, 0), (255, 255, 255)


def method(name):
    return SimpleNamespace(
        name=name,
        classes=['background', 'cat', 'dog', 'bird'],
        palette=[BLACK, RED, GREEN, BLUE],
        ignore_index=255,
    )


METHODS = [method('first'), method('second')]


@pytest.fixture
def images():
    """Two images of 240 x 300: the upper half is class 1; the first method finds that, the second its left half."""
    rng = np.random.default_rng(0)
    compared = []
    for name in ('one', 'two'):
        truth = np.zeros((240, 300), np.uint8)
        truth[:120] = 1
        truth[:10] = 255
        half = truth.astype(np.int64)
        half[truth == 255] = 1
        half[:120, 150:] = 2
        whole = half.copy()
        whole[:120] = 1
        pixels = rng.integers(0, 256, (240, 300, 3), dtype=np.uint8)
        compared.append(Compared(Subject(f'{name}.jpg', 0), pixels, [whole, half], truth))
    return compared


def is_colour(part, colour):
    return part.size > 0 and (part == np.array(colour)).all()


def words(sheet):
    return {text.text: text for text in sheet.texts}


def test_cells_in_order(images):
    sheet = compare_figure(images, METHODS, truth=True, errors=False)
    place = words(sheet)
    for column, heading in enumerate(('image', 'first', 'second', 'ground truth')):
        assert place[heading].x == sheet.at(0, column).x
    for row, image in enumerate(images):
        assert np.array_equal(sheet.at(row, 0).picture, image.pixels)
        assert sheet.at(row, 0).y < place[image.subject.name].y < sheet.at(row, 0).y + 240
        first, second, truth = (sheet.at(row, column).picture for column in (1, 2, 3))
        assert is_colour(first[:120], RED) and is_colour(first[120:], BLACK)
        assert is_colour(second[:120, :150], RED) and is_colour(second[:120, 150:], GREEN)
        assert is_colour(truth[:10], WHITE) and is_colour(truth[10:120], RED) and is_colour(truth[120:], BLACK)
    # 110 of 110 rows; of class 1 half, of the background all, of class 2 none
    assert place['mIoU 100.0'].x == sheet.at(0, 1).x
    assert place['mIoU 50.0'].x == sheet.at(0, 2).x


def test_the_legend_has_what_occurs(images):
    _, _, legend = compare_figure(images, METHODS, truth=True, errors=False).legend
    assert [(entry.name, entry.colour) for entry in legend.entries] == [
        ('background', BLACK),
        ('cat', RED),
        ('dog', GREEN),
        ('ignored', WHITE),
    ]
    _, _, legend = compare_figure(images, METHODS[:1], truth=False, errors=True).legend
    assert [(entry.name, entry.colour) for entry in legend.entries][-3:] == [
        ('right', RIGHT),
        ('wrong', WRONG),
        ('ignored', WHITE),
    ]
    for image in images:
        image.predictions = image.predictions[:1]
        image.truth[image.truth == 255] = 1
    _, _, legend = compare_figure(images, METHODS[:1], truth=True, errors=False).legend
    assert [entry.name for entry in legend.entries] == ['background', 'cat']


def test_error_maps(images):
    sheet = compare_figure(images, METHODS, truth=True, errors=True)
    for row in (1, 3):
        first, second = (sheet.at(row, column).picture for column in (1, 2))
        assert is_colour(first[:10], WHITE) and is_colour(first[10:], RIGHT)
        assert is_colour(second[:10], WHITE) and is_colour(second[10:120, 150:], WRONG)
        assert is_colour(second[10:120, :150], RIGHT) and is_colour(second[120:], RIGHT)
        with pytest.raises(StopIteration):
            sheet.at(row, 3)
        assert sheet.at(row - 1, 1).y < sheet.at(row, 1).y
    assert words(sheet)['100.0 % right'].x == sheet.at(1, 1).x
    assert words(sheet)[f'{100 * (230 - 55) / 230:.1f} % right'].x == sheet.at(1, 2).x


def test_images_without_truth(images):
    images[1].truth = None
    sheet = compare_figure(images, METHODS, truth=True, errors=True)
    assert len([text for text in sheet.texts if text.text.startswith('mIoU')]) == 2
    assert len(sheet.pictures) == 4 + 2 + 3
    for image in images:
        image.truth = None
    sheet = compare_figure(images, METHODS, truth=False, errors=True)
    assert len(sheet.pictures) == 6 and 'ground truth' not in words(sheet)
    assert [entry.name for entry in sheet.legend[2].entries] == ['background', 'cat', 'dog']


def test_opacity(images):
    sheet = compare_figure(images, METHODS, truth=True, errors=True, opacity=0.25)
    expected = 0.75 * images[0].pixels[:120] + 0.25 * np.array(RED)
    assert np.abs(sheet.at(0, 1).picture[:120] - expected).max() <= 0.5
    assert is_colour(sheet.at(1, 1).picture[10:], RIGHT)  # error maps stay plain


def test_smaller_pictures_keep_exact_scores_and_colours(images):
    for image in images:
        image.predictions[0][::2] = 3  # every other row: gone in a picture of half the size, or all of it
    full = compare_figure(images, METHODS, truth=True, errors=False)
    small = compare_figure(images, METHODS, truth=True, errors=False, max_side=150)
    assert {word for word in words(small) if word.startswith('mIoU')} == {
        word for word in words(full) if word.startswith('mIoU')
    }
    picture = small.at(0, 2).picture[:: small.factor, :: small.factor]
    assert picture.shape == (120, 150, 3)
    assert is_colour(picture[:60, 75:], GREEN)  # no mixed colours at the edges
