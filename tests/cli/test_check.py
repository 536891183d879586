"""`mmseg-sclip check` on good and broken trees, and that a test says the same on its way."""

import re

import numpy as np
import pytest
from PIL import Image

from mmseg_sclip.cli import main
from mmseg_sclip.paths import config_path

CLASSES = ('grass', 'water', 'sand')
CONFIG = """
_base_ = [{base!r}]
classes = {classes!r}
model = dict(decode_head=dict(vocabulary=list(classes), class_names=classes))
test_pipeline = [
    dict(type='LoadImageFromFile', color_type={color_type!r}), dict(type='LoadAnnotations'), dict(type='PackSegInputs')
]
test_dataloader = dict(num_workers=0, dataset=dict(_delete_=True, data_root={root!r},
    metainfo=dict(classes=classes), pipeline=test_pipeline, **{more!r}))
test_evaluator = dict({ignored})
"""


@pytest.fixture
def tree(tmp_path):
    """Six images of 64 x 48 pixels with label maps of three classes."""
    random = np.random.RandomState(0)
    for folder in ('images', 'labels'):
        (tmp_path / 'data' / folder).mkdir(parents=True)
    for number in range(6):
        picture = random.randint(0, 256, (48, 64, 3)).astype(np.uint8)
        Image.fromarray(picture).save(tmp_path / 'data' / 'images' / f'{number}.jpg')
        labels = random.randint(0, 3, (48, 64)).astype(np.uint8)
        Image.fromarray(labels).save(tmp_path / 'data' / 'labels' / f'{number}.png')
    return tmp_path / 'data'


@pytest.fixture
def check(tree, tmp_path, fresh_engine, capfd):
    """`check(color_type, classes, *flags, **dataset)`: exit code and output, without line ends."""

    def run(*flags, color_type='color_ignore_orientation', classes=CLASSES, command='check', ignored=9, **more):
        config, more = tmp_path / 'own.py', {'type': 'ImageFolderDataset', **more}
        base = str(config_path('sclip_demo'))
        ignored = '' if ignored is None else f'ignore_index={ignored}'
        parts = dict(base=base, classes=classes, color_type=color_type, root=str(tree), more=more, ignored=ignored)
        config.write_text(CONFIG.format(**parts))
        capfd.readouterr()
        code = main.main([command, str(config), *flags])
        out, err = capfd.readouterr()
        return code, ' '.join(f'{out} {err}'.split())

    return run


def repaint(path, change, **options):
    labels = np.array(Image.open(path))
    changed = change(labels)
    Image.fromarray(labels if changed is None else changed).save(path, **options)


@pytest.mark.parametrize('workers', ['0', '2'])
def test_a_good_tree(check, tree, workers):
    code, said = check('--workers', workers)
    assert code == 0 and 'ImageFolderDataset: 6 images, 6 label maps.' in said and 'Nothing is wrong.' in said
    assert 'What label maps hold: uint8 (6 files).' in said and 'No label map' not in said
    repaint(tree / 'labels' / '0.png', lambda a: a[:12].fill(9))
    code, said = check('--workers', workers, classes=(*CLASSES, 'rock'))
    assert code == 0 and f'not counted: {100 / 24:.2f} % of {6 * 48 * 64}.' in said
    assert 'No label map holds these classes: 3 rock.' in said


def too_large(a):
    a[0, :5] = 200
    return (a + 200 * (a == 200).astype(int)).astype(np.uint16)


FAULTS = {
    'labels outside': (
        lambda root: repaint(root / 'labels/1.png', too_large),
        r'label maps with labels outside the classes \(1\).* \S+/1.png has 400 \(5 pixels\), but .* classes 0 to 2',
    ),
    'sizes': (
        lambda root: repaint(root / 'labels/2.png', lambda a: a[:, 1:]),
        r'of another size than their image \(1\).* \S+/2.png has 48 x 63 pixels .* its image 48 x 64',
    ),
    'no label map': (lambda root: (root / 'labels/0.png').unlink(), r'label maps that are missing \(1\).* \S+/0.png'),
    'no image': (lambda root: (root / 'images/3.jpg').unlink(), r'label maps without an image \(1\).*: 3.png'),
    'damaged': (
        lambda root: (root / 'labels/4.png').write_bytes(b'\x89PNG\r\n\x1a\n'),
        r'cannot be used \(1\).* \S+/4.png is damaged',
    ),
    'floating point': (
        lambda root: Image.fromarray(np.zeros((48, 64), np.float32)).save(root / 'images/5.jpg', format='TIFF'),
        r'images that cannot be read \(1\).* \S+/5.jpg .* floating-point numbers',
    ),
    'all ignored': (
        lambda root: repaint(root / 'labels/4.png', lambda a: a.fill(9)),
        r'of which every pixel is ignored \(1\).* \S+/4.png',
    ),
}


@pytest.mark.parametrize('fault', FAULTS)
def test_faults(check, tree, fault):
    damage, words = FAULTS[fault]
    damage(tree)
    code, said = check('--workers', '0')
    assert code == 1 and re.search(f'WRONG: .*{words}', said), said
    assert 'Error: A test of this dataset would be wrong' in said


def test_masks(check, tree):
    for path in (tree / 'labels').iterdir():
        repaint(path, lambda a: np.where(a == 0, 0, 9).astype(np.uint8))
    code, said = check('--workers', '0')
    assert code == 1 and 'masks in place of label maps (1)' in said
    assert 'hold 0 (grass) and 9, which is not counted' in said
    code, said = check('--max-images', '1', command='test')
    assert code == 0 and 'hold 0 (grass) and 9, which is not counted' in said
    assert 'No label map holds 2 of the 3 classes: water, sand.' in said


def test_exif_and_repeated_names(check, tree):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(tree / 'images/2.jpg').save(tree / 'images/2.jpg', exif=exif)
    (tree / 'val.txt').write_text('2\n0\n2\n')
    code, said = check('--workers', '0', ann_file='val.txt')
    assert code == 0 and '2 images' in said and 'Note: images with an EXIF orientation (1)' in said
    assert 'names repeated in the split file (1)' in said and 'repeat the name of an image, such as 2' in said
    code, said = check('--workers', '0', ann_file='val.txt', color_type='color')
    assert code == 1 and re.search(r'images turned by EXIF \(1\).* \S+/2.jpg has the EXIF orientation 6', said)
    assert re.search(r'of another size than their image \(1\).* its image 64 x 48', said)
    (tree / 'val.txt').write_bytes(b'\xef\xbb\xbf1\r\n0\r\n')
    prefix = dict(img_path='images', seg_map_path='labels')
    code, said = check(command='test', type='BaseSegDataset', ann_file='val.txt', data_prefix=prefix)
    assert code == 0 and 'Iter(test) [2/2]' in said


def test_a_test_says_on_its_way_what_it_meets(check, tree):
    """Each kind once, with the first file, and the number of files at the end."""
    exif = Image.Exif()
    exif[0x0112] = 3
    for number in (1, 4):
        Image.open(tree / f'images/{number}.jpg').save(tree / f'images/{number}.jpg', exif=exif)
    (tree / 'images' / 'notes.txt').touch()
    code, said = check(command='test', color_type='color')
    assert code == 0, said
    assert said.count('has the EXIF orientation 3') == said.count('Set color_type=') == 1
    assert '/1.jpg has the EXIF' in said
    assert 'about "turned by EXIF" is true of 2 files' in said
    assert said.count('no reader of images knows, left out: notes.txt') == 1


@pytest.mark.slow
def test_bands_are_chosen_in_every_command(check, tree, tmp_path):
    """Three bands in another order are another picture, in a test as in a segmentation; a fourth one is not there."""
    found = []
    for name, flags in dict(own=(), turned=('--bands', '3', '2', '1')).items():
        check('--out', str(tmp_path / name), *flags, command='test')
        words = ['--demo', '--classes', *CLASSES, '--out-dir', str(tmp_path / f'{name} segmented'), *flags]
        assert main.main(['segment', str(tree / 'images/1.jpg'), *words]) == 0
        maps = [np.asarray(Image.open(tmp_path / folder / '1.png')) for folder in (name, f'{name} segmented')]
        np.testing.assert_array_equal(*maps)
        found.append(maps[0])
    assert (found[0] != found[1]).any()
    code, said = check('--bands', '4', '2', '1', command='test')
    assert code == 1 and '0.jpg cannot be used as an image: The bands 4 2 1 cannot be taken from 3' in said
