"""Datasets: classes, real pipelines on tiny files in each layout, missing files."""

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

from mmseg_sclip.datasets import COCOObjectDataset, ImageFolderDataset, PaintedScenesDataset, PascalVOC20Dataset
from mmseg_sclip.datasets.scenes import MATERIALS

CONFIGS = Path(__file__).parents[2] / 'configs' / '_base_' / 'datasets'


def build(config: str, root: Path, **changes):
    cfg = Config.fromfile(CONFIGS / f'{config}.py').test_dataloader.dataset
    cfg.update(data_root=str(root), **changes)
    with DefaultScope.overwrite_default_scope('mmseg'):
        return DATASETS.build(cfg)


def test_classes_of_voc20_coco_object_and_the_scenes():
    voc, voc20 = PascalVOCDataset.METAINFO, PascalVOC20Dataset.METAINFO
    assert ('background', *voc20['classes']) == voc['classes'] and [[0, 0, 0], *voc20['palette']] == voc['palette']
    stuff, things = COCOStuffDataset.METAINFO, COCOObjectDataset.METAINFO
    assert things['classes'] == ('background', *stuff['classes'][:80])
    assert [*map(tuple, things['palette'])] == [(0, 0, 0), *map(tuple, stuff['palette'][:80])]
    palette = np.array(PaintedScenesDataset.METAINFO['palette'])
    assert PaintedScenesDataset.METAINFO['classes'] == MATERIALS and palette.shape == (12, 3)
    assert min(np.abs(a - b).max() for a, b in combinations(palette, 2)) >= 30
    assert PascalVOC20Dataset(ann_file='val.txt', lazy_init=True).reduce_zero_label
    assert not COCOObjectDataset(lazy_init=True).reduce_zero_label
    with pytest.raises(ValueError, match='needs ann_file'):
        PascalVOC20Dataset(ann_file='', lazy_init=True)


# config: image, label map, split file, short side, raw ids, ids after loading
VOC = ('JPEGImages/a.jpg', 'SegmentationClass/a.png', 'ImageSets/Segmentation/val.txt', 336)
CONTEXT = ('JPEGImages/a.jpg', 'SegmentationClassContext/a.png', 'ImageSets/SegmentationContext/val.txt', 336)
COCO, STUFF = 'images/val2017/a.jpg', 'annotations/val2017/a_labelTrainIds.png'
CITY = ('leftImg8bit/val/lindau/a_leftImg8bit.png', 'gtFine/val/lindau/a_gtFine_labelTrainIds.png')
TEN = ('images/test2014/a.jpg', 'annotations/test2014/a_labelTrainIds.png')
LAYOUTS = dict(
    voc21=(*VOC, [0, 1, 20, 255], [0, 1, 20, 255]),
    voc20=(*VOC, [0, 1, 20, 255], [255, 0, 19, 255]),
    context60=(*CONTEXT, [0, 1, 59, 59], [0, 1, 59, 59]),
    context59=(*CONTEXT, [0, 1, 59, 59], [255, 0, 58, 58]),
    coco_object=(COCO, 'annotations/val2017/a_instanceTrainIds.png', None, 336, [0, 1, 80, 80], [0, 1, 80, 80]),
    coco_stuff164k=(COCO, STUFF, None, 448, [0, 1, 170, 255], [0, 1, 170, 255]),
    coco_stuff10k=(*TEN, None, 336, [0, 1, 171, 171], [255, 0, 170, 170]),
    cityscapes=(*CITY, None, 560, [0, 1, 18, 255], [0, 1, 18, 255]),
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


@pytest.mark.parametrize('config', OWN)
@pytest.mark.parametrize('what', ['image folder', 'label folder', 'label map', 'image', 'split file'])
def test_what_is_missing_is_named(config, what, tmp_path):
    write_layout(tmp_path, config)
    image, label, split = LAYOUTS[config][:3]
    if what == 'split file' and not split:
        return
    gone = {'image folder': Path(image).parent, 'label folder': Path(label).parent, 'image': image, 'label map': label}
    gone = tmp_path / gone.get(what, split or '')
    os.rename(gone, tmp_path / 'elsewhere')
    words = f'no *.jpg in {gone.parent}' if what == 'image' and not split else f'the {what} {gone} does not exist'
    with pytest.raises(FileNotFoundError) as error:
        build(config, tmp_path)
    assert all(part in str(error.value) for part in (words, '--data-root', image.partition('/')[0]))


@pytest.fixture
def mixed(tmp_path):
    """Images with four suffixes and label maps that hold the number of the image."""
    for folder in ('images/deep', 'labels/deep'):
        (tmp_path / folder).mkdir(parents=True)
    for number, name in enumerate(('a.jpg', 'b.JPG', 'c.jpeg', 'deep/d.png')):
        Image.new('RGB', (4, 2)).save(tmp_path / 'images' / name, 'PNG' if name.endswith('png') else 'JPEG')
        label = (tmp_path / 'labels' / name).with_suffix('.png')
        Image.new('L', (4, 2), number).save(label)
    (tmp_path / 'images' / 'notes.txt').touch()
    (tmp_path / 'images' / '.hidden.png').touch()
    return tmp_path


def test_images_of_every_suffix_find_their_label_maps(mixed):
    pipeline = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'), dict(type='PackSegInputs')]
    with DefaultScope.overwrite_default_scope('mmseg'):
        dataset = ImageFolderDataset(str(mixed), metainfo=dict(classes=tuple('abcd')), pipeline=pipeline)
    names = [Path(dataset.get_data_info(i)['img_path']).name for i in range(len(dataset))]
    assert names == ['a.jpg', 'b.JPG', 'c.jpeg', 'd.png']
    assert [int(sample['data_samples'].gt_sem_seg.data.max()) for sample in dataset] == [0, 1, 2, 3]
    indices = ImageFolderDataset(str(mixed), metainfo=dict(classes=tuple('abcd')), indices=2)
    assert [Path(sample['img_path']).name for sample in indices] == names[:2]


def test_a_split_file_chooses_among_images_of_any_suffix(mixed):
    (mixed / 'val.txt').write_text('b\ndeep/d\n')
    dataset = ImageFolderDataset(str(mixed), ann_file='val.txt')
    assert [Path(dataset.get_data_info(i)['img_path']).name for i in range(len(dataset))] == ['b.JPG', 'd.png']
    (mixed / 'val.txt').write_text('b\nnowhere\n')
    with pytest.raises(FileNotFoundError, match='val.txt names 1 images that are not there, such as nowhere'):
        ImageFolderDataset(str(mixed), ann_file='val.txt')


def test_label_maps_among_the_images(mixed):
    images = mixed / 'images'
    (mixed / 'labels').rename(images / 'labels')
    Image.new('RGB', (4, 2)).save(images / 'labels2.png')  # not a label map
    for labels in ('labels', 'deep/../labels'):
        dataset = ImageFolderDataset(str(images), dict(img_path='', seg_map_path=labels))
        names = [Path(sample['img_path']).relative_to(images).as_posix() for sample in dataset]
        assert names == ['a.jpg', 'b.JPG', 'c.jpeg', 'deep/d.png', 'labels2.png']
    for label in (images / 'labels').glob('*.png'):
        label.rename(images / f'{label.stem}_label.png')
    dataset = ImageFolderDataset(str(mixed), dict(img_path='images', seg_map_path='images'), '_label.png')
    assert [Path(sample['seg_map_path']).name for sample in dataset][:3] == [f'{x}_label.png' for x in 'abc']


def test_two_images_of_one_label_map_are_refused(mixed):
    (mixed / 'images' / 'a.jpg').rename(mixed / 'images' / 'b.png')
    with pytest.raises(ValueError, match='b.JPG and b.png .* would both have the label map b.png. Rename'):
        ImageFolderDataset(str(mixed))
    for image in (mixed / 'images').rglob('*.*'):
        image.unlink()
    with pytest.raises(FileNotFoundError, match='no image in .*images.*data_prefix.img_path'):
        ImageFolderDataset(str(mixed))
