"""Reading images as evaluated and as photographs: colours, bands, white, transparency, damaged files, packing."""

import io

import cv2
import mmcv
import numpy as np
import pytest
import rasterio
from mmengine.dataset import Compose
from mmengine.registry import DefaultScope
from mmseg.datasets.transforms.loading import InferencerLoader
from PIL import Image
from rasterio.enums import ColorInterp

from mmseg_sclip.errors import BadFileError
from mmseg_sclip.images import (
    CheckImageFile,
    LoadImage,
    array_to_rgb,
    open_image,
    pack_photograph,
    pack_without_truth,
    picture_to_rgb,
    read_evaluated,
    read_photograph,
    readable_suffixes,
    steps_after_loading,
)
from mmseg_sclip.images.reading import decode
from mmseg_sclip.paths import scenes_root

equal = np.testing.assert_array_equal
STEPS = [
    dict(type='LoadImageFromFile', color_type='color_ignore_orientation'),
    dict(type='CheckImageFile'),
    dict(type='Resize', scale=(42, 26)),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]


@pytest.fixture(scope='module')
def rgb():
    return np.random.RandomState(0).randint(0, 256, (13, 21, 3)).astype(np.uint8)


@pytest.fixture
def saved(tmp_path, rgb):
    """`saved(name, picture, **options)` writes a Pillow image and returns its path."""

    def save(name, picture=None, **options):
        path = tmp_path / name
        (Image.fromarray(rgb) if picture is None else picture).save(path, **options)
        return path

    return save


@pytest.mark.parametrize('mode', ['RGB', 'L'])
def test_jpegs_are_decoded_as_in_the_evaluation(saved, rgb, mode):
    path = saved('a.jpg', picture := Image.fromarray(rgb).convert(mode), quality=80)
    wanted = mmcv.imread(str(path), channel_order='rgb')
    for jpeg in (path, saved('b.jpg', picture, quality=80, exif=b'Exif\x00\x00rubbish')):
        equal(read_photograph(jpeg), wanted)
        equal(read_evaluated(str(jpeg)), wanted)


# What an orientation means: the row 0 and the column 0 of the file are this side of the picture.
TURNS = {
    **dict.fromkeys([0, 1, 9], lambda a: a),
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: a[::-1].transpose(1, 0, 2),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: a[:, ::-1].transpose(1, 0, 2),
}


@pytest.mark.parametrize('name', ['a.png', 'a.webp', 'a.tif', 'a.bmp', 'a.ppm'])
def test_lossless_files_are_shown_upright(saved, rgb, name):
    for orientation, turn in TURNS.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        turned = name not in ('a.bmp', 'a.ppm')  # which have no such tag
        read = read_photograph(saved(name, exif=exif, **(dict(lossless=True) if name == 'a.webp' else {})))
        assert read.dtype == np.uint8
        equal(read, turn(rgb) if turned else rgb)


def test_grey_palette_and_two_colours(saved, rgb):
    grey = rgb[..., 0]
    equal(read_photograph(saved('g.png', Image.fromarray(grey))), grey[..., None].repeat(3, 2))
    few = Image.fromarray(grey % 2)
    few.putpalette([10, 20, 30, 200, 100, 50])
    wanted = np.array([[10, 20, 30], [200, 100, 50]])[grey % 2]
    for name in ('p.png', 'p.gif', 'p.tif'):
        equal(read_photograph(saved(name, few)), wanted)
    bits = Image.fromarray(grey > 128)
    equal(read_photograph(saved('1.png', bits)), (grey > 128)[..., None].repeat(3, 2) * 255)


def test_transparent_pixels_are_laid_over_white(saved, rgb, tmp_path):
    alpha = np.zeros((13, 21), np.uint8)
    alpha[:, 7:14], alpha[:, 14:] = 51, 255
    wanted = rgb.astype(float)
    wanted[:, :7] = 255
    wanted[:, 7:14] = 0.2 * wanted[:, 7:14] + 0.8 * 255
    rgba = np.dstack([rgb, alpha])
    for name in ('a.png', 'a.tif'):
        np.testing.assert_allclose(read_photograph(saved(name, Image.fromarray(rgba))), wanted, atol=0.5)
    for array, order in ((rgba, 'rgb'), (rgba[..., [2, 1, 0, 3]], 'bgr')):
        np.testing.assert_allclose(array_to_rgb(array, order), wanted, atol=0.5)
    few = Image.fromarray(rgb[..., 0] % 2)
    few.putpalette([10, 20, 30, 200, 100, 50])
    two = np.array([[10, 20, 30], [255, 255, 255]])[rgb[..., 0] % 2]
    equal(read_photograph(saved('p.png', few, transparency=1)), two)
    # A colour of an RGB file may be the transparent one.
    path = saved('colour.png', few.convert('RGB'), transparency=(200, 100, 50))
    grey = read_photograph(saved('grey.png', Image.fromarray(np.uint8([[1, 9]])), transparency=9))
    assert grey.tolist() == [[[1, 1, 1], [255, 255, 255]]]
    for read in (read_photograph(path), read_evaluated(str(path)), picture_to_rgb(Image.open(path))):
        equal(read, two)
    cv2.imwrite(str(tmp_path / '16.png'), np.dstack([rgb[..., ::-1], alpha]).astype(np.uint16) * 257)
    np.testing.assert_allclose(read_photograph(tmp_path / '16.png'), wanted, atol=1)


def test_cmyk(saved, rgb):
    cyan = np.dstack([255 - rgb, np.zeros((13, 21, 1), np.uint8)])
    equal(read_photograph(saved('c.tif', Image.fromarray(cyan, 'CMYK'))), rgb)
    plain = np.full((16, 16, 4), (200, 30, 90, 0), np.uint8)
    read = read_photograph(saved('c.jpg', Image.fromarray(plain, 'CMYK'), quality=100))
    np.testing.assert_allclose(read, np.broadcast_to([55, 225, 165], read.shape), atol=3)


def test_16_bits_become_8_by_rounding(saved, rgb, tmp_path):
    values = np.array([[0, 128, 129, 257, 385, 386, 32768, 65280, 65407, 65535]], np.uint16)
    wanted = [0, 0, 1, 1, 1, 2, 128, 254, 255, 255]  # no shift and no cut gives these
    content = cv2.imencode('.png', np.repeat(values[..., None], 3, axis=2))[1].tobytes()
    assert decode(content, 'x.png', None, []).rgb[0, :, 0].tolist() == wanted
    for name in ('g.png', 'g.tif'):
        assert read_photograph(saved(name, Image.fromarray(values)))[0, :, 0].tolist() == wanted
    assert array_to_rgb(values)[0, :, 1].tolist() == wanted
    assert read_photograph(saved('i.tif', Image.fromarray(values.astype(np.int32))))[0, :, 2].tolist() == wanted
    for name in ('rgb.png', 'rgb.tif'):
        cv2.imwrite(str(tmp_path / name), rgb[..., ::-1].astype(np.uint16) * 257)
        equal(read_photograph(tmp_path / name), rgb)


def file(kind, picture):
    buffer = io.BytesIO()
    (picture.convert('CMYK') if kind == 'cmyk' else picture).save(buffer, 'JPEG' if kind == 'cmyk' else kind)
    return buffer.getvalue()


DAMAGES = {
    'half': lambda content: content[: len(content) // 2],
    # As of an unfinished download; Pillow alone takes so many for data.
    'half, then zeros': lambda content: content[: len(content) // 2] + bytes(100_000),
    'empty': lambda content: b'',
    'no picture': lambda content: b'no picture' * 50,
}
ZEROS_ARE_PIXELS = ('TIFF', 'BMP', 'WEBP')


@pytest.mark.parametrize('kind', ['JPEG', 'cmyk', 'PNG', 'TIFF', 'GIF', 'WEBP', 'BMP'])
def test_damaged_files_are_named(rgb, tmp_path, kind):
    path, content = tmp_path / 'broken.jpg', file(kind, Image.fromarray(rgb).resize((200, 150)))
    for damage in DAMAGES:
        if damage == 'half, then zeros' and kind in ZEROS_ARE_PIXELS:
            continue
        path.write_bytes(DAMAGES[damage](content))
        with pytest.raises(BadFileError, match='broken.jpg is damaged or no image.*Save it anew'):
            read_photograph(path)
        with pytest.raises(BadFileError, match='broken.jpg is damaged or no image.*Fetch it again'):
            CheckImageFile().transform(dict(img_path=str(path)))


def test_a_damaged_painted_scene_is_painted_again_not_fetched(fresh_cache, tmp_path):
    path = scenes_root() / 'v1-evaluation' / 'images' / '000000.jpg'
    with pytest.raises(BadFileError, match=f'Delete {path.parents[1]}, and it is painted again'):
        open_image(b'no picture', path)
    mmcv.imwrite(np.ones((4, 6, 3), np.float32), str(tmp_path / 'a.hdr'))
    assert open_image((tmp_path / 'a.hdr').read_bytes(), 'a.hdr') is None  # a format that is left to OpenCV


def test_good_files_pass(rgb, tmp_path):
    path = tmp_path / 'good.jpg'
    for kind, tail in (('JPEG', b''), ('cmyk', bytes(100)), ('PNG', b'tail'), ('WEBP', b'tail'), ('JPEG', b'tail')):
        path.write_bytes(file(kind, Image.fromarray(rgb)) + tail)
        assert CheckImageFile().transform(dict(img_path=str(path), img=None)) == dict(img_path=str(path), img=None)


@pytest.fixture
def turned(saved):
    """A file that is to be turned: 13 x 21 as stored, 21 x 13 upright."""
    exif = Image.Exif()
    exif[0x0112] = 6
    with DefaultScope.overwrite_default_scope('mmseg'):
        yield str(saved('turned.jpg', exif=exif, quality=100, subsampling=0))


def test_images_of_a_dataset_stay_as_stored_and_others_are_upright(turned, rgb):
    image = Compose(STEPS[:2])(dict(img_path=turned, sample_idx=0))
    assert image['img_shape'] == image['ori_shape'] == (13, 21)
    equal(image['img'][..., ::-1], read_evaluated(turned))
    image = Compose(STEPS[:2])(dict(img_path=turned))
    assert image['img_shape'] == image['ori_shape'] == (21, 13)
    equal(image['img'], mmcv.imread(turned))  # as MMSegmentation draws it
    equal(image['img'][..., ::-1], read_photograph(turned))
    steps = [InferencerLoader(color_type='color_ignore_orientation'), CheckImageFile()]
    equal(Compose(steps)(rgb)['img'], rgb)


def test_packing(turned):
    assert [step['type'] for step in steps_after_loading(STEPS)] == ['Resize', 'PackSegInputs']
    rgb = mmcv.imread(turned, channel_order='rgb')
    for packed in (pack_without_truth(STEPS, dict(img_path=turned)), pack_photograph(STEPS, rgb, 'x')):
        assert packed['data_samples'].ori_shape == (21, 13)
        equal(packed['inputs'].numpy(), mmcv.imresize(mmcv.imread(turned), (42, 26)).transpose(2, 0, 1))
    assert packed['data_samples'].img_path == 'x'


def test_arrays_and_what_has_no_white(saved, rgb):
    equal(array_to_rgb(rgb, 'rgb'), rgb)
    equal(array_to_rgb(rgb[..., ::-1].astype(np.uint16) * 257, 'bgr'), rgb)
    for grey in (rgb[..., 0], rgb[..., :1]):
        equal(array_to_rgb(grey), rgb[..., :1].repeat(3, 2))
    for values in (np.float32([[0.5]]), np.int32([[-1]]), np.int32([[70000]])):
        with pytest.raises(BadFileError, match=r'a\.tif .*Its pixels are'):
            read_photograph(saved('a.tif', Image.fromarray(values)))


# --- bands of TIFF files

RANDOM = np.random.RandomState(0)
RGB = RANDOM.randint(0, 256, (12, 16, 3)).astype(np.uint8)
NIR = RANDOM.randint(0, 256, (12, 16, 1)).astype(np.uint8)
FOUR = np.dstack([RGB, NIR])
COLOURS = ('red', 'green', 'blue')


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
    path, smooth = tmp_path / f'x.{suffix}', cv2.resize(RGB[:2, :3], (48, 32))
    Image.fromarray(smooth).save(path, **(dict(format='JPEG') if suffix == 'jfif' else {}))
    sample = LoadImage(color_type='color_ignore_orientation').transform(dict(img_path=str(path)))
    equal(sample['img'][..., ::-1], read_photograph(path))
    assert f'.{suffix}' in readable_suffixes() and np.abs(sample['img'][..., ::-1].astype(int) - smooth).mean() < 8


TURNED = [('color', 'x', 3, True, 1), ('color', None, 3, True, 0), ('color', 'x', 1, False, 0)]
TURNED += [('color_ignore_orientation', 'x', 3, False, 0)]


@pytest.mark.parametrize('color_type, labels, orientation, turned, noted', TURNED)
def test_an_image_that_is_turned_while_its_label_map_is_not(tmp_path, color_type, labels, orientation, turned, noted):
    exif, path = Image.Exif(), str(tmp_path / 'x.png')
    exif[0x0112] = orientation
    Image.fromarray(RGB).save(path, exif=exif)
    sample = LoadImage(color_type=color_type).transform(dict(img_path=path, seg_map_path=labels))
    equal(sample['img'][..., ::-1], RGB[::-1, ::-1] if turned else RGB)
    assert [f'{path} has the EXIF orientation 3' in note.text for note in sample['notes']] == [True] * noted
