"""Hooks and the loading step."""

import io
from types import SimpleNamespace

import mmcv
import numpy as np
import pytest
from mmcv.transforms import LoadImageFromFile
from mmengine.visualization import Visualizer
from PIL import Image

from mmseg_sclip.engine import LoadCheckedImage, PredictionVisualizationHook, VocabularyCheckHook
from mmseg_sclip.engine.loading import decode_strictly
from mmseg_sclip.models.text import load_vocabulary


@pytest.fixture
def picture(recipe):
    return Image.fromarray(recipe.image(0, 40, 60)[..., ::-1])


def save(image, path, **options):
    image.save(path, **options)
    return str(path)


@pytest.mark.parametrize('name', ['a.jpg', 'a.png'])
def test_good_files_load_as_mmseg_loads_them(picture, tmp_path, name):
    path = save(picture, tmp_path / name)
    ours, theirs = (load().transform(dict(img_path=path)) for load in (LoadCheckedImage, LoadImageFromFile))
    assert np.array_equal(ours.pop('img'), theirs.pop('img'))
    assert ours == theirs


def test_exif_does_not_turn_the_image(picture, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = save(picture, tmp_path / 'turned.jpg', exif=exif)
    assert LoadImageFromFile().transform(dict(img_path=path))['img_shape'] == (60, 40)
    assert LoadCheckedImage().transform(dict(img_path=path))['ori_shape'] == (40, 60)


@pytest.mark.parametrize('kind', ['JPEG', 'PNG'])
@pytest.mark.parametrize('damage', ['half', 'noise', 'empty'])
def test_damaged_files_are_named(picture, tmp_path, kind, damage):
    buffer = io.BytesIO()
    picture.save(buffer, kind)
    content = buffer.getvalue()
    path = tmp_path / 'broken.jpg'
    path.write_bytes(dict(half=content[: len(content) // 2], noise=b'no picture' * 50, empty=b'')[damage])
    with pytest.raises(OSError, match='broken.jpg is damaged or no image'):
        LoadCheckedImage().transform(dict(img_path=str(path)))


def test_bytes_behind_the_end_of_a_good_file_do_no_harm(picture, tmp_path):
    path = save(picture, tmp_path / 'tail.jpg')
    with open(path, 'ab') as file:
        file.write(b'tail')
    assert LoadCheckedImage().transform(dict(img_path=path))['img_shape'] == (40, 60)


@pytest.fixture(scope='module')
def photograph(recipe):
    rows = [np.concatenate([recipe.image(3 * i + j, 100, 120) for j in range(3)], 1) for i in range(3)]
    return Image.fromarray(np.concatenate(rows)[..., ::-1])


def thumbnail(image):
    """EXIF with a JPEG in it."""
    buffer = io.BytesIO()
    image.resize((60, 40)).save(buffer, 'JPEG')
    exif = Image.Exif()
    exif[0x010E] = 'a picture'
    return exif.tobytes() + buffer.getvalue()


JPEGS = {
    'baseline': lambda image: dict(),
    'optimized': lambda image: dict(optimize=True, subsampling=0, quality=95),
    'progressive': lambda image: dict(progressive=True),
    'restarts': lambda image: dict(restart_marker_rows=1),
    'restart blocks': lambda image: dict(restart_marker_blocks=7, progressive=True),
    'thumbnail': lambda image: dict(exif=thumbnail(image), comment=b'\xff\xd8\xff\xd9', icc_profile=b'\xff' * 9999),
}


def jpeg(image, kind):
    buffer = io.BytesIO()
    image.save(buffer, 'JPEG', **JPEGS[kind](image))
    return buffer.getvalue()


def load(content, tmp_path, **options):
    path = tmp_path / 'file.jpg'
    path.write_bytes(content)
    return LoadCheckedImage(**options).transform(dict(img_path=str(path)))


@pytest.mark.parametrize('mode', ['RGB', 'L', 'CMYK'])
@pytest.mark.parametrize('kind', JPEGS)
@pytest.mark.parametrize('tail', ['', 'zeros', 'text', 'second'])
def test_good_jpegs_pass(photograph, tmp_path, mode, kind, tail):
    content = jpeg(photograph.convert(mode), kind)
    content += {'': b'', 'zeros': bytes(100), 'text': b'tail', 'second': content}[tail]
    assert load(content, tmp_path)['img_shape'] == (300, 360)


@pytest.mark.parametrize('kind', JPEGS)
@pytest.mark.parametrize('size', [(8, 8), (47, 33), (160, 96)])
def test_flat_grey_jpegs_pass(tmp_path, kind, size):
    """They look as missing blocks do, and their data is mostly zeros."""
    for colour in (0, 125, 128):
        content = jpeg(Image.new('RGB', size, (colour,) * 3), kind)
        assert load(content, tmp_path)['img_shape'] == size[::-1]


def swapped(content, new):
    middle = len(content) // 2
    return content[:middle] + new + content[middle + len(new) :]


DAMAGES = {
    'half': lambda content: content[: len(content) // 2],
    'zeroed half': lambda content: content[: len(content) // 2] + bytes(len(content) - len(content) // 2),
    'noise': lambda content: swapped(content, np.random.RandomState(0).bytes(4096)),
    'half with an end': lambda content: content[: len(content) // 2] + b'\xff\xd9',
    'half and whole': lambda content: content[: len(content) // 2] + content,
}


@pytest.mark.parametrize('mode', ['RGB', 'L', 'CMYK'])
@pytest.mark.parametrize('damage', DAMAGES)
@pytest.mark.parametrize('kind', JPEGS)
def test_damaged_jpegs_are_named(photograph, tmp_path, kind, damage, mode):
    content = jpeg(photograph.convert(mode), kind)
    assert len(content) > 16000
    with pytest.raises(OSError, match='file.jpg is damaged or no image .*Fetch it again'):
        load(DAMAGES[damage](content), tmp_path)


def test_a_cut_within_a_stuffed_byte(photograph, tmp_path):
    content = jpeg(photograph, 'progressive')
    cut = content.index(b'\xff\x00', len(content) // 2) + 1
    with pytest.raises(OSError, match='are missing'):
        load(content[:cut] + b'\xff\xd9', tmp_path)


@pytest.mark.parametrize('kind', ['restarts', 'baseline'])
def test_zeros_in_a_jpeg_are_found_where_they_show(photograph, tmp_path, kind):
    """At restart markers, or as blocks that are missing at the end."""
    with pytest.raises(OSError, match='restart markers out of order' if kind == 'restarts' else 'are missing'):
        load(swapped(jpeg(photograph, kind), bytes(4096)), tmp_path)


@pytest.mark.parametrize('suffix', ['.bmp', '.tif', '.webp', '.ppm', '.hdr'])
def test_other_formats_are_left_to_opencv(picture, tmp_path, suffix):
    path = str(tmp_path / f'file{suffix}')
    pixels = np.asarray(picture)
    mmcv.imwrite(pixels.astype(np.float32) / 255 if suffix == '.hdr' else pixels, path)
    assert LoadCheckedImage().transform(dict(img_path=path))['img_shape'] == (40, 60)
    decode_strictly((tmp_path / f'file{suffix}').read_bytes(), path)


@pytest.mark.parametrize('content', [None, b''])
def test_ignore_empty(tmp_path, content):
    path = tmp_path / 'file.jpg'
    if content is not None:
        path.write_bytes(content)
    sample = dict(img_path=str(path))
    assert LoadCheckedImage(ignore_empty=True).transform(dict(sample)) is None
    assert LoadImageFromFile(ignore_empty=True).transform(dict(sample)) is None
    with pytest.raises(OSError, match='file.jpg'):
        LoadCheckedImage().transform(sample)


def test_ignore_empty_does_not_ignore_damage(photograph, tmp_path):
    with pytest.raises(OSError, match='file.jpg is damaged'):
        load(jpeg(photograph, 'baseline')[:9000], tmp_path, ignore_empty=True)


def runner_of(vocabulary, classes):
    dataset = SimpleNamespace(metainfo=dict(classes=classes))
    return SimpleNamespace(
        model=SimpleNamespace(decode_head=SimpleNamespace(vocabulary=vocabulary)),
        test_dataloader=SimpleNamespace(dataset=dataset),
        val_dataloader=SimpleNamespace(dataset=dataset),
    )


@pytest.mark.parametrize('when', ['before_test', 'before_val'])
def test_the_vocabulary_must_have_the_datasets_number_of_classes(when):
    hook = VocabularyCheckHook()
    getattr(hook, when)(runner_of(load_vocabulary(['a', 'b']), ('x', 'y')))
    with pytest.raises(ValueError, match='has 2 classes, but the dataset SimpleNamespace has 3 .from x to z.'):
        getattr(hook, when)(runner_of(load_vocabulary(['a', 'b']), ('x', 'y', 'z')))


def test_other_models_are_left_alone():
    runner = runner_of(None, ('x',))
    runner.model = SimpleNamespace()
    VocabularyCheckHook().before_test(runner)


def test_pictures_of_one_name_do_not_overwrite_each_other():
    hook = PredictionVisualizationHook()
    assert [hook._name(path) for path in ('a/x.jpg', 'b/x.jpg', 'c/y.png')] == ['x', 'x-2', 'y']


def test_a_picture_for_every_image_in_its_stored_orientation(picture, tmp_path):
    import torch
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample
    from mmseg.visualization import SegLocalVisualizer

    exif = Image.Exif()
    exif[0x0112] = 6
    paths = [save(picture, tmp_path / f'{i}.jpg', exif=exif, quality=100, subsampling=0) for i in range(3)]
    visualizer = SegLocalVisualizer(alpha=0.5, name='engine-test')
    visualizer.dataset_meta = dict(classes=['left', 'right'], palette=[[255, 0, 0], [0, 0, 255]])
    previous = Visualizer.get_current_instance() if Visualizer._instance_dict else None
    hook = PredictionVisualizationHook(out_dir=str(tmp_path / 'out'))
    hook.draw, hook.show, hook.wait_time, hook.backend_args, hook.interval = True, False, 0, None, 1
    hook._visualizer = visualizer
    labels = torch.zeros(1, 40, 60, dtype=torch.int64)
    labels[..., 30:] = 1
    for i, path in enumerate(paths):
        sample = SegDataSample(metainfo=dict(img_path=path), pred_sem_seg=PixelData(data=labels))
        hook._after_iter(SimpleNamespace(iter=0), i, {}, [sample], 'test')
    written = sorted((tmp_path / 'out').iterdir())
    assert [path.name for path in written] == ['0.png', '1.png', '2.png'] and hook.written == 3
    drawn = np.asarray(Image.open(written[0]).convert('RGB')).astype(float)
    stored = np.asarray(Image.open(paths[0])).astype(float)  # Pillow gives RGB, and does not turn
    assert drawn.shape == (40, 60, 3)
    # Corners, away from the names: half picture, half colour of the label.
    for corner, colour in (((38, 1), (255, 0, 0)), ((38, 58), (0, 0, 255))):
        assert np.abs(drawn[corner] - (stored[corner] + np.array(colour)) / 2).max() <= 2
    assert previous is None or Visualizer.get_current_instance() is not visualizer
