"""What the figure of a comparison shows."""

from types import SimpleNamespace

import numpy as np
import pytest

from mmseg_sclip.datasets.label_maps import VOID
from mmseg_sclip.visual.comparison import Prediction
from mmseg_sclip.visual.comparison_figure import comparison_figure

RED, GREEN, BLUE, BLACK, WHITE = (255, 0, 0), (0, 160, 0), (0, 0, 255), (0, 0, 0), (255, 255, 255)


def method(name, ignore_index=255):
    classes, palette = ['background', 'cat', 'dog', 'bird'], [BLACK, RED, GREEN, BLUE]
    return SimpleNamespace(name=name, classes=classes, palette=palette, ignore_index=ignore_index)


@pytest.fixture
def images():
    """Two images of 240 x 300: the upper half is class 1; the first method finds that, the second its left half."""
    compared = []
    for name, ignored in (('one', 255), ('two', VOID)):  # VOID stands for no label in a test
        truth, whole = np.zeros((2, 240, 300), np.int64)
        truth[:120], truth[:10], whole[:120] = 1, ignored, 1
        half = whole.copy()
        half[:120, 150:] = 2
        pixels = np.random.default_rng(0).integers(0, 256, (240, 300, 3), dtype=np.uint8)
        subject = SimpleNamespace(name=name, pixels=lambda method, pixels=pixels: pixels)
        compared.append([Prediction(subject, whole, truth, 100), Prediction(subject, half, truth, 50)])
    return compared


METHODS = [method('first'), method('second')]


def draw(images, methods=METHODS, **options):
    """Title and pixels of each picture, in the order of reading; names and colours of the legend."""
    figure = comparison_figure(images, methods, **{**dict(truth=True, error_maps=True), **options})
    shown = [(cell.get_title(), np.asarray(cell.images[0].get_array())) for cell in figure.axes]
    (legend,) = figure.legends
    colours = [tuple(round(255 * part) for part in patch.get_facecolor()[:3]) for patch in legend.get_patches()]
    return shown, dict(zip([text.get_text() for text in legend.get_texts()], colours, strict=True))


def is_colour(part, colour):
    return part.size > 0 and (part == np.array(colour)).all()


def test_images_with_error_maps_below(images):
    shown, legend = draw(images)
    titles = ['first\nmIoU 100.0', 'second\nmIoU 50.0', 'ground truth', '100.0 % right']
    titles.append(f'{100 * (230 - 55) / 230:.1f} % right')
    assert [title for title, _ in shown] == ['one', *titles, 'two', *titles]
    for row, image in enumerate(images):
        pixels, first, second, truth, right, wrong = (picture for _, picture in shown[6 * row : 6 * row + 6])
        assert np.array_equal(pixels, image[0].subject.pixels(None))
        assert is_colour(first[:120], RED) and is_colour(first[120:], BLACK)
        assert is_colour(second[:120, :150], RED) and is_colour(second[:120, 150:], GREEN)
        assert is_colour(truth[:10], WHITE) and is_colour(truth[10:120], RED) and is_colour(truth[120:], BLACK)
        assert is_colour(right[:10], WHITE) and is_colour(wrong.max(axis=-1), wrong.min(axis=-1))
        assert right[10:].min() > 150 and wrong[10:120, :150].min() > 150  # right: pale
        assert wrong[10:120, 150:].max() < 150  # wrong: dark
    assert list(legend) == ['background', 'cat', 'dog', 'no class', 'right (the pale image)', 'wrong']
    assert (legend['cat'], legend['no class']) == (RED, WHITE)
    title, half = draw(images, error_maps=False, opacity=0.25)[0][2]
    assert title == f'second\nmIoU 50.0, {titles[-1]}'
    half = draw(images, error_maps=False, opacity=0.25)[0][1][1]
    assert np.abs(half[:120] - 0.75 * images[0][0].subject.pixels(None)[:120] - 0.25 * np.array(RED)).max() <= 0.5


def test_images_without_truth(images):
    images[1] = [prediction._replace(truth=None) for prediction in images[1]]
    shown, _ = draw(images)
    assert [title for title, _ in shown][-3:] == ['two', 'first', 'second'] and len(shown) == 4 + 2 + 3
    images[0] = [prediction._replace(truth=None) for prediction in images[0]]
    shown, legend = draw(images, truth=False)
    assert len(shown) == 6 and list(legend) == ['background', 'cat', 'dog']


@pytest.mark.parametrize('ignored', [1, [1, 255]])
def test_a_class_may_be_ignored(images, ignored):
    shown, legend = draw([image[:1] for image in images], [method('first', ignored)])
    (_, truth), (_, errors) = shown[2:4]
    assert is_colour(truth[10:120], WHITE) and is_colour(errors[10:120], WHITE)
    assert list(legend)[:3] == ['background', 'cat', 'no class']
