import os

import cv2
import numpy as np
import pytest
from matplotlib.ft2font import FT2Font
from PIL import Image, ImageDraw

from mmseg_sclip import pictures
from mmseg_sclip.pictures import text as text_module

RED, GREEN, BLUE, BLACK = (255, 0, 0), (0, 255, 0), (0, 0, 255), (0, 0, 0)


def lab(colours):
    """CIELAB written out, D65: not the conversion that chose the colours."""
    rgb = np.asarray(colours) / 255
    linear = np.where(rgb > 0.04045, ((rgb + 0.055) / 1.055) ** 2.4, rgb / 12.92)
    matrix = [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
    x, y, z = (linear @ np.array(matrix).T / [0.95047, 1, 1.08883]).T
    f = [np.where(v > (6 / 29) ** 3, np.cbrt(v), v / (3 * (6 / 29) ** 2) + 4 / 29) for v in (x, y, z)]
    return np.stack([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])], axis=-1)


@pytest.mark.parametrize('count, least', [(2, 80), (9, 45), (21, 30), (60, 15), (256, 5)])
def test_colours_are_far_from_each_other_and_from_the_background(count, least):
    colours = pictures.distinct_colours(count, background=True)
    assert colours[0] == BLACK and len(set(colours)) == count
    apart = np.linalg.norm(lab(colours)[:, None] - lab(colours), axis=-1) + 1e9 * np.eye(count)
    assert apart.min() > least


def test_a_class_keeps_its_colour_when_others_come():
    few, many = pictures.distinct_colours(3), pictures.distinct_colours(100)
    assert few == many[:3] == pictures.distinct_colours(4, background=True)[1:]
    assert all(type(value) is int for colour in many for value in colour)
    assert pictures.distinct_colours(0) == pictures.distinct_colours(0, background=True) == []
    with pytest.raises(ValueError, match='257 colours'):
        pictures.distinct_colours(257)


def test_blend():
    image = np.full((1, 4, 3), 100, np.uint8)
    labels = np.array([[0, 1, 255, 1]])
    mixed = pictures.blend(image, labels, [BLACK, (200, 0, 51)], opacity=0.5)
    assert mixed.tolist() == [[[50, 50, 50], [150, 50, 76], [100, 100, 100], [150, 50, 76]]]  # 75.5 rounds to even
    assert pictures.blend(image, labels, [RED, BLUE], opacity=0.25)[0, 0].tolist() == [139, 75, 75]
    assert pictures.blend(image, labels, [RED, BLUE], opacity=1)[0, :2].tolist() == [list(RED), list(BLUE)]
    assert image.max() == image.min() == 100


def test_a_label_without_colour_is_no_silent_black():
    image = np.zeros((1, 2, 3), np.uint8)
    with pytest.raises(ValueError, match=r'\[2\] have no colour'):
        pictures.blend(image, np.array([[0, 2]]), [RED, BLUE])
    with pytest.raises(ValueError, match='255'):
        pictures.blend(image, np.array([[0, 255]]), [RED, BLUE], ignore=None)
    with pytest.raises(ValueError, match='one size'):
        pictures.blend(image, np.zeros((2, 1), int), [RED])


def in_box(picture, box):
    return np.asarray(picture)[box[1] : box[3], box[0] : box[2]]


def test_legend_shows_each_colour_and_name_where_it_says():
    names = ['background', 'cat', 'a very long name that nobody would ever give to a class of objects', 'γάτα']
    palette = [BLACK, RED, GREEN, BLUE]
    laid_out = pictures.legend(names, palette, font=20)
    picture = laid_out.draw()
    assert picture.size == laid_out.size
    assert [entry.name for entry in laid_out.entries] == names
    assert [len(entry.lines) for entry in laid_out.entries] == [1, 1, 2, 1]
    outside = np.asarray(picture).copy()
    for entry in laid_out.entries:
        swatch = in_box(picture, entry.swatch)
        assert (swatch[1:-1, 1:-1] == entry.colour).all()
        dark = in_box(picture, entry.text).min(axis=-1) < 100
        assert dark.any(axis=0).nonzero()[0].max() > 0.9 * dark.shape[1] - 4  # the text fills its box
        for left, top, right, bottom in (entry.swatch, entry.text):
            outside[top:bottom, left:right] = 255
    assert (outside == 255).all()


def test_the_text_is_the_name():
    """Against matplotlib's own rendering of the same words: another name fits worse."""
    words = ['remote control', 'remote', 'cat', 'γάτα', 'кошка']

    def ours(name):
        laid_out = pictures.legend([name], [RED], font=20)
        return in_box(laid_out.draw(), laid_out.entries[0].text).min(axis=-1) < 128

    def theirs(name):
        font = FT2Font(str(text_module._BUNDLED))
        font.set_size(20, 72)
        font.set_text(name, 0)
        font.draw_glyphs_to_bitmap(antialiased=True)
        return np.asarray(font.get_image()) > 128

    def trimmed(ink):
        rows, columns = ink.any(axis=1).nonzero()[0], ink.any(axis=0).nonzero()[0]
        return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]

    def difference(one, other):
        height, width = np.maximum(one.shape, other.shape)
        canvas = [np.pad(ink, [(0, height - ink.shape[0]), (0, width - ink.shape[1])]) for ink in (one, other)]
        return (canvas[0] != canvas[1]).sum() / (canvas[0] | canvas[1]).sum()

    for name in words:
        drawn = trimmed(ours(name))
        assert min(words, key=lambda other: difference(drawn, trimmed(theirs(other)))) == name


def test_only_what_is_there_is_listed():
    laid_out = pictures.legend(['a', 'b', 'c'], [RED, GREEN, BLUE], present={0, 2})
    assert [(entry.label, entry.name, entry.colour) for entry in laid_out.entries] == [(0, 'a', RED), (2, 'c', BLUE)]
    assert pictures.legend(['a'], [RED], present=[]).entries == ()


def test_many_classes_stand_in_columns():
    count = 171
    laid_out = pictures.legend([f'class {i}' for i in range(count)], pictures.distinct_colours(count), height=400)
    assert len(laid_out.entries) == count and laid_out.size[1] <= 400
    boxes = [box for entry in laid_out.entries for box in (entry.swatch, entry.text)]
    taken = np.zeros(laid_out.size[::-1], int)
    for left, top, right, bottom in boxes:
        taken[top:bottom, left:right] += 1
    assert taken.max() == 1


@pytest.mark.parametrize('height, width', [(1, 1), (20, 300), (600, 40)])
def test_the_picture_is_untouched_beside_its_legend(height, width):
    image = np.random.RandomState(0).randint(0, 256, (height, width, 3)).astype(np.uint8)
    whole = pictures.with_legend(image, ['cat', 'dog'], [RED, BLUE], present=[1])
    assert (np.asarray(whole)[:height, :width] == image).all()
    beside = np.asarray(whole)[:, width:]
    assert (beside == BLUE).all(axis=-1).sum() > 100 and not (beside == RED).all(axis=-1).any()


def test_scripts_without_a_font(monkeypatch):
    """A box and the number, and no error; the number only where it is needed."""
    monkeypatch.setattr(text_module, '_system_fonts', lambda: ())
    text_module._font_of.cache_clear()
    laid_out = pictures.legend(['cat', '猫'], [RED, BLUE])
    assert [entry.lines for entry in laid_out.entries] == [('cat',), ('猫 (label 1)',)]
    laid_out.draw()
    assert not pictures.is_readable('猫') and pictures.is_readable('кот γάτα قطة')
    text_module._font_of.cache_clear()


def test_a_system_font_is_used_where_it_alone_has_the_script(monkeypatch, tmp_path):
    """Math TeX Gyre stands in for a Chinese font: it has italic letters that the bundled one lacks."""
    bundled = text_module._covered(text_module._BUNDLED)
    others = [path for path in text_module._BUNDLED.parent.glob('*.ttf') if text_module._covered(path) - bundled]
    other = others[0]
    strange = sorted(text_module._covered(other) - bundled)[-1]
    broken = tmp_path / 'broken.ttf'
    broken.write_bytes(b'no font')
    monkeypatch.setattr(text_module, '_system_fonts', lambda: (broken, other))
    text_module._font_of.cache_clear()
    assert list(text_module._runs(f'cat {strange}'))[-1][0] == other
    assert list(text_module._runs('cat')) == [(text_module._BUNDLED, 'cat')]
    assert pictures.is_readable(strange)

    def drawn(character):
        picture = Image.new('RGB', pictures.text_size(character, 40), (255, 255, 255))
        pictures.draw_text(ImageDraw.Draw(picture), (0, 0), character, 40, BLACK)
        return np.asarray(picture)

    with_font = drawn(strange)
    assert (with_font < 128).any()
    monkeypatch.setattr(text_module, '_system_fonts', lambda: ())
    text_module._font_of.cache_clear()
    without = drawn(strange)
    assert with_font.shape != without.shape or (with_font != without).any()
    text_module._font_of.cache_clear()


def test_label_map_reads_back(tmp_path):
    labels = np.random.RandomState(1).randint(0, 3, (5, 7))
    labels[0, 0] = 255
    path = tmp_path / 'new' / 'labels.png'
    pictures.save_label_map(path, labels, [BLACK, RED, (1, 2, 3)])
    read = Image.open(path)
    assert read.mode == 'P'
    np.testing.assert_array_equal(np.asarray(read), labels)
    assert read.convert('RGB').getpixel((0, 0)) == BLACK
    y, x = np.argwhere(labels == 2)[0]
    assert read.convert('RGB').getpixel((int(x), int(y))) == (1, 2, 3)
    np.testing.assert_array_equal(cv2.imread(str(path))[labels == 1], np.full(((labels == 1).sum(), 3), [0, 0, 255]))
    assert [file.name for file in path.parent.iterdir()] == ['labels.png']
    with pytest.raises(ValueError, match='300'):
        pictures.save_label_map(path, np.array([[300]]), [])


def test_an_interrupted_file_is_the_old_one(tmp_path):
    path = tmp_path / 'a.txt'
    path.write_text('old')

    def write(error):
        with pictures.write_atomically(path) as unfinished:
            unfinished.write_text('new')
            if error is not None:
                raise error

    for error in (KeyboardInterrupt(), ValueError('no')):
        with pytest.raises(type(error)):
            write(error)
        assert path.read_text() == 'old' and os.listdir(tmp_path) == ['a.txt']
    write(None)
    assert path.read_text() == 'new' and os.listdir(tmp_path) == ['a.txt']
    blocked = path / 'below_a_file' / 'b.png'
    with pytest.raises(OSError, match='Cannot write .*b.png'):
        pictures.save_label_map(blocked, np.zeros((1, 1)), [])


def test_heat_map_and_its_scale():
    image = np.full((2, 60, 3), 80, np.uint8)
    values = np.tile(np.linspace(-1, 2, 60), (2, 1))
    low, high = np.array([48, 18, 59]), np.array([122, 4, 3])  # the ends of turbo, as published
    full = pictures.heat_overlay(image, values, 0, 1, opacity=1)
    np.testing.assert_allclose(full[0, 0], low, atol=1)
    np.testing.assert_allclose(full[0, -1], high, atol=1)
    half = pictures.heat_overlay(image, values, 0, 1, opacity=0.5)
    np.testing.assert_allclose(half[0, -1], (high + 80) / 2, atol=1)
    assert pictures.heat_overlay(image, np.zeros((2, 60)), 0, 0).shape == image.shape
    whole = np.asarray(pictures.with_scale(full, 'γάτα', 0, 1, 'probability'))
    assert (whole[:2, :60] == full).all()
    bar = [row for row in whole[2:] if np.abs(row[7].astype(int) - low).max() < 12]
    assert len(bar) > 10 and np.abs(bar[0][-8].astype(int) - high).max() < 12
