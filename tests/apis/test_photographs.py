import cv2
import numpy as np
import pytest
from PIL import Image

from mmseg_sclip.apis import array_to_rgb, inputs, list_pictures, read_photograph
from mmseg_sclip.engine.loading import LoadCheckedImage


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


@pytest.mark.parametrize('name', ['a.png', 'a.bmp', 'a.tif', 'a.ppm', 'a.webp'])
def test_lossless_files_are_what_was_saved(saved, rgb, name):
    read = read_photograph(saved(name, **(dict(lossless=True) if name == 'a.webp' else {})))
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, rgb)


@pytest.mark.parametrize('mode', ['RGB', 'L'])
def test_jpegs_are_decoded_as_in_the_evaluation(saved, rgb, mode):
    path = saved('a.jpg', Image.fromarray(rgb).convert(mode), quality=80)
    evaluated = LoadCheckedImage().transform(dict(img_path=str(path)))['img']
    np.testing.assert_array_equal(read_photograph(path)[..., ::-1], evaluated)


# What an orientation means: the row 0 and the column 0 of the file are this side of the picture.
TURNS = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: a[::-1].transpose(1, 0, 2),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: a[:, ::-1].transpose(1, 0, 2),
    0: lambda a: a,
    9: lambda a: a,
}


@pytest.mark.parametrize('orientation', TURNS)
@pytest.mark.parametrize('name', ['a.png', 'a.webp', 'a.tif'])
def test_photographs_are_shown_upright(saved, rgb, orientation, name):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(name, exif=exif, **(dict(lossless=True) if name == 'a.webp' else {}))
    np.testing.assert_array_equal(read_photograph(path), TURNS[orientation](rgb))


def test_exif_that_is_rubbish_is_no_obstacle(saved, rgb):
    assert read_photograph(saved('a.jpg', exif=b'Exif\x00\x00rubbish')).shape == rgb.shape


def test_grey_palette_and_two_colours(saved, rgb):
    grey = rgb[..., 0]
    np.testing.assert_array_equal(read_photograph(saved('g.png', Image.fromarray(grey))), grey[..., None].repeat(3, 2))
    few = Image.fromarray(grey % 2)
    few.putpalette([10, 20, 30, 200, 100, 50])
    wanted = np.array([[10, 20, 30], [200, 100, 50]])[grey % 2]
    for name in ('p.png', 'p.gif', 'p.tif'):
        np.testing.assert_array_equal(read_photograph(saved(name, few)), wanted)
    bits = Image.fromarray(grey > 128)
    np.testing.assert_array_equal(read_photograph(saved('1.png', bits)), (grey > 128)[..., None].repeat(3, 2) * 255)


def test_transparent_pixels_are_laid_over_white(saved, rgb, tmp_path):
    alpha = np.zeros((13, 21), np.uint8)
    alpha[:, 7:14], alpha[:, 14:] = 51, 255
    wanted = rgb.astype(float)
    wanted[:, :7] = 255
    wanted[:, 7:14] = 0.2 * wanted[:, 7:14] + 0.8 * 255
    rgba = Image.fromarray(np.dstack([rgb, alpha]))
    for name in ('a.png', 'a.tif'):
        np.testing.assert_allclose(read_photograph(saved(name, rgba)), wanted, atol=0.5)
    few = Image.fromarray(rgb[..., 0] % 2)
    few.putpalette([10, 20, 30, 200, 100, 50])
    read = read_photograph(saved('p.png', few, transparency=1))
    np.testing.assert_array_equal(read, np.array([[10, 20, 30], [255, 255, 255]])[rgb[..., 0] % 2])
    cv2.imwrite(str(tmp_path / '16.png'), np.dstack([rgb[..., ::-1], alpha]).astype(np.uint16) * 257)
    np.testing.assert_allclose(read_photograph(tmp_path / '16.png'), wanted, atol=1)


def test_cmyk(saved, rgb):
    cyan = np.dstack([255 - rgb, np.zeros((13, 21, 1), np.uint8)])
    np.testing.assert_array_equal(read_photograph(saved('c.tif', Image.fromarray(cyan, 'CMYK'))), rgb)
    plain = np.full((16, 16, 4), (200, 30, 90, 0), np.uint8)
    read = read_photograph(saved('c.jpg', Image.fromarray(plain, 'CMYK'), quality=100))
    np.testing.assert_allclose(read, np.broadcast_to([55, 225, 165], read.shape), atol=3)


def test_16_bits_become_8(saved, rgb, tmp_path):
    values = np.array([[0, 128, 257, 32768, 65535]], np.uint16)
    for name in ('g.png', 'g.tif'):
        assert read_photograph(saved(name, Image.fromarray(values)))[0, :, 0].tolist() == [0, 0, 1, 128, 255]
    for name in ('rgb.png', 'rgb.tif'):
        cv2.imwrite(str(tmp_path / name), rgb[..., ::-1].astype(np.uint16) * 257)
        np.testing.assert_allclose(read_photograph(tmp_path / name), rgb, atol=1)
    assert read_photograph(saved('i.tif', Image.fromarray(values.astype(np.int32))))[0, 3, 0] == 128


@pytest.mark.parametrize(
    'name', ['a.jpg', 'grey.jpg', 'cmyk.jpg', 'a.png', 'rgba.png', '16.png', 'a.tif', 'a.gif', 'a.webp']
)
def test_half_a_file_is_an_error_that_names_it(saved, rgb, name):
    modes = {'grey.jpg': 'L', 'cmyk.jpg': 'CMYK', 'rgba.png': 'RGBA', '16.png': 'I;16'}
    picture = Image.fromarray(rgb).resize((200, 150))
    if name == '16.png':
        picture = picture.convert('L')
    path = saved(name, picture.convert(modes.get(name, 'RGB')))
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2] + (b'\xff\xd9' if name.endswith('.jpg') else b''))
    with pytest.raises(OSError, match=path.name):
        read_photograph(path)


@pytest.mark.parametrize('content', [b'', b'some text', b'\x89PNG\r\n\x1a\n' + b'abc' * 30, b'\xff\xd8\xff'])
def test_no_picture_at_all(tmp_path, content):
    path = tmp_path / 'a.jpg'
    path.write_bytes(content)
    with pytest.raises(OSError, match=r'a\.jpg is damaged or no'):
        read_photograph(path)


def test_what_has_no_white(saved):
    for values in (np.float32([[0.5]]), np.int32([[-1]]), np.int32([[70000]])):
        with pytest.raises(OSError, match=r'a\.tif .*its pixels are'):
            read_photograph(saved('a.tif', Image.fromarray(values)))


def test_arrays_say_their_order(rgb):
    np.testing.assert_array_equal(array_to_rgb(rgb, 'rgb'), rgb)
    np.testing.assert_array_equal(array_to_rgb(rgb, 'bgr'), rgb[..., ::-1])
    np.testing.assert_array_equal(array_to_rgb(rgb[..., 0]), rgb[..., :1].repeat(3, 2))
    np.testing.assert_array_equal(array_to_rgb(rgb.astype(np.uint16) * 257, 'rgb'), rgb)
    bgra = np.dstack([rgb, np.full((13, 21), 255, np.uint8)])
    np.testing.assert_array_equal(array_to_rgb(bgra, 'bgr'), rgb[..., ::-1])
    for order in (None, 'RGB', 'gbr'):
        with pytest.raises(ValueError, match="'bgr' "):
            array_to_rgb(rgb, order)
    for wrong in (rgb.transpose(2, 0, 1), rgb[None], rgb[:0], rgb[0, 0]):
        with pytest.raises(ValueError, match='shape'):
            array_to_rgb(wrong, 'rgb')
    for dtype in (float, bool, np.int64):
        with pytest.raises(ValueError, match='uint8'):
            array_to_rgb(rgb.astype(dtype), 'rgb')


def test_what_may_be_named(saved, rgb, tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(inputs, 'print_log', lambda message, **_: said.append(message))
    for name in ('b.png', 'a.JPG', 'c[1].png'):
        saved(name)
    (tmp_path / 'notes.txt').touch()
    (tmp_path / '.hidden.png').touch()
    (tmp_path / 'deep').mkdir()
    saved('deep/d.png')
    names = [str(tmp_path / name) for name in ('a.JPG', 'b.png', 'c[1].png')]
    assert list_pictures(str(tmp_path)) == list_pictures(tmp_path) == names
    assert len(said) == 2 and 'holds 3 pictures and 1 other file (notes.txt), left out' in said[0]
    assert list_pictures(str(tmp_path / '*.png')) == names[1:]
    assert list_pictures(str(tmp_path / '**' / '*.png')) == [*names[1:], str(tmp_path / 'deep' / 'd.png')]
    assert list_pictures(names[2]) == [names[2]]  # a file, though it looks like a glob
    picture = Image.fromarray(rgb)
    mixed = list_pictures([names[0], rgb, tmp_path / 'deep', picture])
    assert mixed[0] == names[0] and mixed[1] is rgb and mixed[2].endswith('d.png') and mixed[3] is picture
    monkeypatch.chdir(tmp_path)
    assert list_pictures('deep/*.p?g') == ['deep/d.png']


@pytest.mark.parametrize(
    'given, error, message',
    [
        ('none.jpg', FileNotFoundError, 'none.jpg. Correct'),
        ('*.jpg', FileNotFoundError, r'\*.jpg.*no picture and|\*.jpg.*holds no picture'),
        ('.', FileNotFoundError, 'holds no picture and 1 other file'),
        ([], ValueError, 'empty'),
        (3, TypeError, 'int'),
        ('x' * 300, FileNotFoundError, 'xxx'),
    ],
)
def test_what_may_not(tmp_path, monkeypatch, given, error, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'notes.txt').touch()
    with pytest.raises(error, match=message):
        list_pictures(given)
