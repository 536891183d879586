"""Datasets: classes, real pipelines on tiny files in each layout, painted scenes, errors."""

import os
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

import mmseg_sclip  # noqa: F401  before mmseg, which cannot be imported first with mmcv-lite

# isort: split
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmseg.datasets import COCOStuffDataset, PascalVOCDataset
from mmseg.registry import DATASETS
from PIL import Image

from mmseg_sclip.datasets import COCOObjectDataset, PaintedScenesDataset, PascalVOC20Dataset
from mmseg_sclip.demo import dataset as painting
from mmseg_sclip.demo.dataset import SceneSet, paint_folder
from mmseg_sclip.demo.scenes import MATERIALS, PURPOSES, scene

CONFIGS = Path(__file__).parents[2] / 'configs' / '_base_' / 'datasets'
FEW = SceneSet(count=3, size=32)


def build(config: str, root: Path, **changes):
    cfg = Config.fromfile(CONFIGS / f'{config}.py').test_dataloader.dataset
    cfg.update(data_root=str(root), **changes)
    with DefaultScope.overwrite_default_scope('mmseg'):
        return DATASETS.build(cfg)


# --- classes ---------------------------------------------------------------------------------------------------------


def test_voc20_is_voc_without_background():
    voc, voc20 = PascalVOCDataset.METAINFO, PascalVOC20Dataset.METAINFO
    assert ('background', *voc20['classes']) == voc['classes']
    assert [[0, 0, 0], *voc20['palette']] == voc['palette']
    assert len(voc20['classes']) == len(voc20['palette']) == 20


def test_coco_object_is_background_and_the_things():
    stuff, things = COCOStuffDataset.METAINFO, COCOObjectDataset.METAINFO
    assert len(things['classes']) == len(things['palette']) == 81
    assert things['classes'][0] == 'background'
    assert tuple(things['palette'][0]) == (0, 0, 0)
    assert things['classes'][1:] == stuff['classes'][:80]
    assert things['palette'][1:] == stuff['palette'][:80]
    assert things['classes'][80] == 'toothbrush'
    assert stuff['classes'][80] == 'banner'


def test_painted_palette_tells_materials_apart():
    palette = np.array(PaintedScenesDataset.METAINFO['palette'])
    assert PaintedScenesDataset.METAINFO['classes'] == MATERIALS
    assert palette.shape == (12, 3)
    assert min(np.abs(a - b).max() for a, b in combinations(palette, 2)) >= 30


# --- label ids through the shipped configs ---------------------------------------------------------------------------

# config: image, label map, split file, short side, raw ids, ids after loading
LAYOUTS = dict(
    voc21=(
        'JPEGImages/a.jpg',
        'SegmentationClass/a.png',
        'ImageSets/Segmentation/val.txt',
        336,
        [0, 1, 20, 255],
        [0, 1, 20, 255],
    ),
    voc20=(
        'JPEGImages/a.jpg',
        'SegmentationClass/a.png',
        'ImageSets/Segmentation/val.txt',
        336,
        [0, 1, 20, 255],
        [255, 0, 19, 255],
    ),
    context60=(
        'JPEGImages/a.jpg',
        'SegmentationClassContext/a.png',
        'ImageSets/SegmentationContext/val.txt',
        336,
        [0, 1, 59, 59],
        [0, 1, 59, 59],
    ),
    context59=(
        'JPEGImages/a.jpg',
        'SegmentationClassContext/a.png',
        'ImageSets/SegmentationContext/val.txt',
        336,
        [0, 1, 59, 59],
        [255, 0, 58, 58],
    ),
    coco_object=(
        'images/val2017/a.jpg',
        'annotations/val2017/a_instanceTrainIds.png',
        None,
        336,
        [0, 1, 80, 80],
        [0, 1, 80, 80],
    ),
    coco_stuff164k=(
        'images/val2017/a.jpg',
        'annotations/val2017/a_labelTrainIds.png',
        None,
        448,
        [0, 1, 170, 255],
        [0, 1, 170, 255],
    ),
    coco_stuff10k=(
        'images/test2014/a.jpg',
        'annotations/test2014/a_labelTrainIds.png',
        None,
        336,
        [0, 1, 171, 171],
        [255, 0, 170, 170],
    ),
    cityscapes=(
        'leftImg8bit/val/lindau/a_leftImg8bit.png',
        'gtFine/val/lindau/a_gtFine_labelTrainIds.png',
        None,
        560,
        [0, 1, 18, 255],
        [0, 1, 18, 255],
    ),
    ade20k=('images/validation/a.jpg', 'annotations/validation/a.png', None, 336, [0, 1, 150, 150], [255, 0, 149, 149]),
    demo=('images/a.jpg', 'annotations/a.png', None, 20, [0, 1, 11, 11], [0, 1, 11, 11]),
)
OWN = ('voc20', 'coco_object', 'demo')


def write_layout(root: Path, config: str) -> None:
    """One image of 40 x 20 whose EXIF entry asks to turn it, a label map of four stripes, decoys beside it."""
    image, label, split, _, raw, _ = LAYOUTS[config]
    for file in filter(None, (image, label, split)):
        (root / file).parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new('RGB', (40, 20)).save(root / image, exif=exif)
    stripes = Image.fromarray(np.repeat(np.uint8([raw]), 10, axis=1).repeat(20, axis=0))
    if config.startswith('voc'):
        stripes.putpalette(list(range(256)) * 3)  # VOC's masks are palette pictures
    stripes.save(root / label)
    Image.new('L', (40, 20)).save((root / label).with_name('other.png'))
    if split:
        (root / split).write_text('a\n')
        Image.new('RGB', (40, 20)).save((root / image).with_name('not_in_the_split.jpg'))


@pytest.mark.parametrize('config', LAYOUTS)
def test_real_pipeline_loads_the_right_ids(config, tmp_path):
    write_layout(tmp_path, config)
    _, _, _, side, _, expected = LAYOUTS[config]
    dataset = build(config, tmp_path)
    assert len(dataset) == 1
    sample = dataset[0]
    assert sample['inputs'].shape == (3, side, 2 * side)
    label = sample['data_samples'].gt_sem_seg.data
    assert label.shape == (1, 20, 40)
    assert sample['data_samples'].ori_shape == (20, 40)
    assert label[0, 0, ::10].tolist() == label[0, 19, 9::10].tolist() == expected
    assert max(i for i in expected if i != 255) == len(dataset.metainfo['classes']) - 1


def test_zero_is_reduced_where_it_is_no_class():
    stated = {
        config
        for config in LAYOUTS
        if Config.fromfile(CONFIGS / f'{config}.py').test_dataloader.dataset.get('reduce_zero_label')
    }
    assert stated == {'voc20', 'context59', 'coco_stuff10k', 'ade20k'}
    assert PascalVOC20Dataset(ann_file='val.txt', lazy_init=True).reduce_zero_label
    assert not COCOObjectDataset(lazy_init=True).reduce_zero_label


# --- missing data ----------------------------------------------------------------------------------------------------


def remove(root: Path, part: str) -> None:
    os.rename(root / part, root / 'elsewhere')


@pytest.mark.parametrize(
    'config, what, gone',
    [
        *((config, 'image folder', str(Path(LAYOUTS[config][0]).parent)) for config in OWN),
        *((config, 'label folder', str(Path(LAYOUTS[config][1]).parent)) for config in OWN),
        ('voc20', 'split file', LAYOUTS['voc20'][2]),
    ],
)
def test_missing_parts_are_named(config, what, gone, tmp_path):
    write_layout(tmp_path, config)
    remove(tmp_path, gone)
    with pytest.raises(FileNotFoundError) as error:
        build(config, tmp_path)
    layout = type(build(config, tmp_path, lazy_init=True)).LAYOUT
    assert layout
    for words in (f'the {what} {tmp_path / gone} does not exist', '--data-root', layout):
        assert words in str(error.value)


@pytest.mark.parametrize('config', OWN)
def test_missing_files_are_named(config, tmp_path):
    write_layout(tmp_path, config)
    image, label, split = LAYOUTS[config][:3]
    remove(tmp_path, label)
    with pytest.raises(FileNotFoundError, match='the label map .*' + Path(label).name):
        build(config, tmp_path)
    remove(tmp_path, image)
    with pytest.raises(FileNotFoundError, match='the image .*a.jpg' if split else r'no \*\.jpg in .*'):
        build(config, tmp_path)
    if split:
        (tmp_path / split).write_text('')
        with pytest.raises(FileNotFoundError, match='no sample is listed in .*val.txt'):
            build(config, tmp_path)


def test_voc20_does_not_list_the_image_folder():
    with pytest.raises(ValueError, match='needs ann_file'):
        PascalVOC20Dataset(ann_file='', lazy_init=True)


# --- painted scenes --------------------------------------------------------------------------------------------------


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv('MMSEG_SCLIP_CACHE', str(tmp_path))
    return tmp_path


@pytest.fixture
def no_painting(monkeypatch):
    def forbid() -> None:
        monkeypatch.setattr(painting, 'scene', lambda *_: pytest.fail('painted again'))

    return forbid


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob('*') if file.is_file()}


def test_painting_is_deterministic_and_true_to_the_scenes(tmp_path):
    one, two = paint_folder(FEW, tmp_path / 'one'), paint_folder(FEW, tmp_path / 'two')
    assert one != two
    assert one.name == two.name
    assert contents(one) == contents(two)
    assert len(contents(one)) == 2 * FEW.count
    for index, (image, label) in enumerate(
        zip(sorted(one.glob('images/*.jpg')), sorted(one.glob('annotations/*.png')), strict=True)
    ):
        painted = scene('evaluation', 0, index, 32, 5)
        assert np.array_equal(np.asarray(Image.open(label)), painted.label)
        difference = np.asarray(Image.open(image), float) - painted.image
        assert np.abs(difference.mean((0, 1))).max() < 3  # a swapped channel order is far off
        assert np.abs(difference).mean() < 12


def test_every_parameter_has_a_folder_of_its_own(tmp_path, monkeypatch):
    assert SceneSet().name == f'v{painting.GENERATOR_VERSION}-evaluation-seed0-128px-200-5regions'
    sets = [
        SceneSet(),
        SceneSet('training'),
        SceneSet(seed=1),
        SceneSet(count=201),
        SceneSet(size=129),
        SceneSet(max_regions=4),
    ]
    names = {scenes.name for scenes in sets}
    monkeypatch.setattr(painting, 'GENERATOR_VERSION', painting.GENERATOR_VERSION + 1)
    assert len(names | {SceneSet().name}) == len(sets) + 1


def test_second_use_does_not_paint(tmp_path, no_painting):
    first = paint_folder(FEW, tmp_path)
    before = {file: file.stat().st_mtime_ns for file in first.rglob('*')}
    no_painting()
    assert paint_folder(FEW, tmp_path) == first
    assert {file: file.stat().st_mtime_ns for file in first.rglob('*')} == before


def test_another_process_may_be_first(tmp_path, monkeypatch):
    """The other one paints the whole folder while we are at our first scene; its files stay, ours go."""
    others = []

    def overtaken(*which):
        if not others:
            others.append(None)
            others[0] = paint_folder(FEW, tmp_path).stat().st_ino
        return scene(*which)

    monkeypatch.setattr(painting, 'scene', overtaken)
    folder = paint_folder(FEW, tmp_path)
    assert folder.stat().st_ino == others[0]
    assert list(tmp_path.iterdir()) == [folder]
    assert len(contents(folder)) == 2 * FEW.count


def test_interrupted_painting_leaves_nothing_that_looks_complete(tmp_path, monkeypatch):
    def interrupted(purpose, seed, index, *size):
        if index == 2:
            raise KeyboardInterrupt
        return scene(purpose, seed, index, *size)

    with monkeypatch.context() as patch:
        patch.setattr(painting, 'scene', interrupted)
        with pytest.raises(KeyboardInterrupt):
            paint_folder(FEW, tmp_path)
        assert list(tmp_path.iterdir()) == []
        patch.setattr(painting.shutil, 'rmtree', lambda *_, **__: None)  # killed: no time to clean up
        with pytest.raises(KeyboardInterrupt):
            paint_folder(FEW, tmp_path)
    assert [folder.name[0] for folder in tmp_path.iterdir()] == ['.']
    assert len(contents(paint_folder(FEW, tmp_path))) == 2 * FEW.count


def test_a_damaged_folder_is_an_error(tmp_path):
    folder = paint_folder(FEW, tmp_path)
    next(folder.glob('images/*')).unlink()
    with pytest.raises(RuntimeError, match='holds 2 of 3 .* Delete'):
        paint_folder(FEW, tmp_path)


def test_a_cache_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(OSError, match='Cannot paint scenes into .*MMSEG_SCLIP_CACHE'):
        paint_folder(FEW, tmp_path / 'file')


def test_dataset_paints_once_into_the_cache(cache, no_painting):
    lazy = PaintedScenesDataset(count=3, size=32, lazy_init=True)
    assert list(cache.iterdir()) == []
    lazy.full_init()
    folder = cache / 'scenes' / FEW.name
    assert [Path(sample['img_path']) for sample in lazy] == sorted(folder.glob('images/*'))
    no_painting()
    with DefaultScope.overwrite_default_scope('mmseg'):
        again = PaintedScenesDataset(
            count=3,
            size=32,
            pipeline=[dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'), dict(type='PackSegInputs')],
        )
    assert len(again) == 3
    assert not again.metainfo['reduce_zero_label']
    for index, sample in enumerate(again):
        painted = scene('evaluation', 0, index, 32, 5)
        assert np.array_equal(sample['data_samples'].gt_sem_seg.data[0].numpy(), painted.label)
        loaded_bgr = sample['inputs'].numpy().transpose(1, 2, 0)
        assert np.abs((loaded_bgr[..., ::-1].astype(float) - painted.image).mean((0, 1))).max() < 3


def test_a_given_folder_is_read_instead(cache, tmp_path_factory, no_painting):
    folder = paint_folder(FEW, tmp_path_factory.mktemp('given'))
    no_painting()
    assert len(PaintedScenesDataset(data_root=str(folder), count=7, purpose='training')) == 3
    assert list(cache.iterdir()) == []


def test_unknown_purpose_is_an_error():
    with pytest.raises(ValueError, match="'test'; choose one of 'evaluation', 'training', 'projection'"):
        SceneSet('test')


def test_purposes_share_no_scene():
    """Nor do the first scenes of three seeds."""
    painted = [scene(purpose, seed, index, 32, 5) for purpose in PURPOSES for seed in range(3) for index in range(30)]
    assert len({one.image.tobytes() for one in painted}) == 3 * 3 * 30
