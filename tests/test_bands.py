"""Bands of image files: which are shown, what is transparent, which value is white, in tests and photographs alike."""

import cv2
import numpy as np
import pytest
import rasterio
from mmengine.registry import DefaultScope
from PIL import Image
from rasterio.enums import ColorInterp

from mmseg_sclip.errors import BadFileError
from mmseg_sclip.images import LoadImage, read_evaluated, read_photograph, readable_suffixes

RANDOM = np.random.RandomState(0)
RGB = RANDOM.randint(0, 256, (12, 16, 3)).astype(np.uint8)
NIR = RANDOM.randint(0, 256, (12, 16, 1)).astype(np.uint8)
FOUR = np.dstack([RGB, NIR])
COLOURS = ('red', 'green', 'blue')
equal = np.testing.assert_array_equal


@pytest.fixture
def read(tmp_path):
    """`read(bands, kinds, chosen, **profile)` writes a TIFF, and reads it in both ways: RGB, kinds of notes."""

    def run(bands, kinds=None, chosen=None, **profile):
        path = tmp_path / 'x.tif'
        shape = dict(height=bands.shape[0], width=bands.shape[1], count=bands.shape[2], dtype=bands.dtype)
        with rasterio.open(path, 'w', driver='GTiff', **shape, **profile) as file:
            if kinds is not None:
                file.colorinterp = [getattr(ColorInterp, kind) for kind in kinds]
            file.write(bands.transpose(2, 0, 1))
        notes = []
        photograph = read_photograph(path, chosen, notes)
        with DefaultScope.overwrite_default_scope('mmseg'):
            step = LoadImage(color_type='color_ignore_orientation', bands=chosen)
        sample = step.transform(dict(img_path=str(path)))
        equal(sample['img'][..., ::-1], photograph)
        equal(read_evaluated(str(path), bands=chosen), photograph)
        assert sample['notes'] == notes
        return photograph, [note.kind for note in notes]

    return run


@pytest.mark.parametrize('interleave, compress', [('pixel', 'none'), ('band', 'lzw'), ('pixel', 'deflate')])
def test_near_infrared_is_a_band(read, interleave, compress):
    how = dict(compress=compress, interleave=interleave, photometric='RGB')
    for alpha, kinds in (('NO', ['bands']), ('YES', ['band marked as transparency'])):
        shown, noted = read(FOUR, alpha=alpha, **how)
        equal(shown, RGB)
        assert noted == kinds


def test_transparency_is_honoured(read):
    alpha = np.full((12, 16, 1), 255, np.uint8)
    assert read(np.dstack([RGB, alpha]), (*COLOURS, 'alpha'))[1] == []
    alpha[:, :8], alpha[:, 8] = 0, 51
    wanted = np.where(alpha == 0, 255, RGB).astype(float)
    wanted[:, 8] = 0.2 * RGB[:, 8] + 0.8 * 255
    multiplied = np.rint(RGB * (alpha / 255)).astype(np.uint8)
    for bands, kinds, how, noted in (
        ([RGB, alpha], (*COLOURS, 'alpha'), {}, ['transparency']),
        ([multiplied, alpha], None, dict(alpha='PREMULTIPLIED', photometric='RGB'), ['transparency']),
        ([RGB, alpha, NIR], (*COLOURS, 'alpha', 'undefined'), dict(photometric='RGB'), ['transparency', 'bands']),
    ):
        shown, kinds_of_notes = read(np.dstack(bands), kinds, **how)
        np.testing.assert_allclose(shown, wanted, atol=1 if 'alpha' in how else 0.5)
        assert kinds_of_notes == noted
    shown, noted = read(np.dstack([RGB, 0 * alpha]), (*COLOURS, 'alpha'))
    assert noted == ['invisible']
    equal(shown, RGB)


@pytest.mark.parametrize('share, shades, is_band', [(0.45, 40, False), (0.55, 40, True), (0.55, 8, False)])
def test_what_varies_as_a_picture_is_a_band(read, share, shades, is_band):
    """More than half of it between the ends, in more than a few shades; a soft mask is none of both."""
    alpha = np.full(192, 255, np.uint8)
    alpha[: int(share * 192)] = np.resize(np.arange(10, 10 + shades), int(share * 192))
    _, noted = read(np.dstack([RGB, alpha.reshape(12, 16, 1)]), (*COLOURS, 'alpha'))
    assert noted == ['band marked as transparency' if is_band else 'transparency']


def test_bands_without_colours(read):
    grey = ('gray', 'undefined', 'undefined', 'undefined')
    for count in (3, 4):
        shown, noted = read(FOUR[..., :count], grey[:count], photometric='MINISBLACK')
        equal(shown, RGB)
        assert noted == ['bands']
    with pytest.raises(BadFileError, match='cannot be used as an image: It has 2 bands.*--bands'):
        read(RGB[..., :2], grey[:2], photometric='MINISBLACK')
    shown, noted = read(RGB[..., :1])
    equal(shown, RGB[..., :1].repeat(3, axis=2))
    assert noted == []


def test_chosen_bands(read):
    for chosen, wanted in (((4, 3, 2), [3, 2, 1]), ([2], [1, 1, 1]), (1, [0, 0, 0])):
        shown, noted = read(FOUR, (*COLOURS, 'alpha'), chosen)
        equal(shown, FOUR[..., wanted])
        assert noted == []
    for chosen in ((1, 2), (1, 2, 5), (0, 1, 2)):
        with pytest.raises(BadFileError, match='cannot be taken from 4'):
            read(FOUR, chosen=chosen)


WHITE = [(200, 255, ['white 255']), (255, 255, ['white 255']), (256, 4095, ['white 4095'])]
WHITE += [(4095, 4095, ['white 4095']), (4096, 65535, ['dark']), (16383, 65535, ['dark']), (16384, 65535, [])]


@pytest.mark.parametrize('most, white, kinds', WHITE)
def test_the_value_of_white(read, tmp_path, most, white, kinds):
    values = RANDOM.randint(0, most, (9, 8, 3)).astype(np.uint16)
    values[0, 0, 0] = most
    wanted = np.rint(values.astype(float) * 255 / white)
    for bands, of in ((values, COLOURS), (np.dstack([values, values[..., 0]]), (*COLOURS, 'undefined'))):
        shown, noted = read(bands, of, photometric='RGB')
        equal(shown, wanted)
        assert [kind for kind in noted if kind != 'bands'] == kinds
    for name in ('x.png', 'x.ppm'):
        cv2.imwrite(str(tmp_path / name), values[..., ::-1])
        equal(read_photograph(tmp_path / name), wanted)
        equal(read_evaluated(str(tmp_path / name)), wanted)


def test_white_that_a_file_tells(read):
    for values in (RGB[..., :1], RGB[..., :1] * np.uint16(257)):
        equal(read(values, photometric='MINISWHITE')[0], 255 - RGB[..., [0, 0, 0]])
    values = np.array([[[0], [511], [1023]]], np.uint16)
    shown, noted = read(values, nbits=10)
    assert shown[0, :, 0].tolist() == [0, 127, 255] and noted == []
    shown, noted = read((values // 16).astype(np.int8))
    assert shown[0, :, 0].tolist() == [0, 31, 63] and noted == ['white 255']


def test_whole_files_that_are_not_supported_are_not_called_damaged(tmp_path, read):
    for bands in (RGB.astype(np.float32), RGB.astype(np.int16) - 5):
        with pytest.raises(BadFileError, match='x.tif cannot be used as an image: Its pixels are'):
            read(bands)
    heic = b'\0\0\0\x18ftypheic\0\0\0\0mif1heic'
    for name, content in {'x.heic': heic, 'x.svg': b'<svg xmlns="x"/>', 'x.pdf': b'%PDF-1.7'}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(BadFileError, match=f'{name} cannot be used as an image: it is .*, which is not supported'):
            read_photograph(tmp_path / name)


@pytest.mark.parametrize('suffix', ['jfif', 'jp2', 'avif', 'gif', 'tga', 'webp', 'ppm', 'pcx'])
def test_tests_and_photographs_agree_on_every_suffix(tmp_path, suffix):
    assert f'.{suffix}' in readable_suffixes()
    path = tmp_path / f'x.{suffix}'
    smooth = cv2.resize(RGB[:2, :3], (48, 32))
    Image.fromarray(smooth).save(path, **(dict(format='JPEG') if suffix == 'jfif' else {}))
    sample = LoadImage(color_type='color_ignore_orientation').transform(dict(img_path=str(path)))
    equal(sample['img'][..., ::-1], read_photograph(path))
    assert np.abs(sample['img'][..., ::-1].astype(int) - smooth).mean() < 8


@pytest.mark.parametrize(
    'color_type, labels, orientation, turned, noted',
    [
        ('color', 'x', 3, True, 1),
        ('color', None, 3, True, 0),
        ('color', 'x', 1, False, 0),
        ('color_ignore_orientation', 'x', 3, False, 0),
    ],
)
def test_an_image_that_is_turned_while_its_label_map_is_not(tmp_path, color_type, labels, orientation, turned, noted):
    exif, path = Image.Exif(), str(tmp_path / 'x.png')
    exif[0x0112] = orientation
    Image.fromarray(RGB).save(path, exif=exif)
    sample = LoadImage(color_type=color_type).transform(dict(img_path=path, seg_map_path=labels))
    equal(sample['img'][..., ::-1], RGB[::-1, ::-1] if turned else RGB)
    assert [f'{path} has the EXIF orientation 3' in note.text for note in sample['notes']] == [True] * noted
