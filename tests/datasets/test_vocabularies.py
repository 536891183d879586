"""The shipped vocabularies, read with a parser of their own."""

from pathlib import Path

import pytest

import mmseg_sclip  # before mmseg, which cannot be imported first with mmcv-lite

# isort: split
from mmseg import datasets as theirs

from mmseg_sclip.datasets import COCOObjectDataset, PascalVOC20Dataset
from mmseg_sclip.demo.scenes import MATERIALS

FOLDER = Path(mmseg_sclip.__file__).parent / 'datasets' / 'vocabularies'
COUNTS = dict(
    voc21=(21, 56),
    voc20=(20, 30),
    context60=(60, 60),
    context59=(59, 59),
    coco_object=(81, 113),
    coco_stuff=(171, 171),
    cityscapes=(19, 19),
    ade20k=(150, 150),
    demo=(12, 12),
)


def read(name: str) -> list[list[str]]:
    return [line.split(', ') for line in (FOLDER / f'{name}.txt').read_text().splitlines()]


def unspaced(names) -> list[str]:
    return [name.replace(' ', '') for name in names]


def test_these_are_all():
    assert {file.stem for file in FOLDER.glob('*.txt')} == set(COUNTS)


@pytest.mark.parametrize('name', COUNTS)
def test_counts_and_form(name):
    classes = read(name)
    assert (len(classes), sum(map(len, classes))) == COUNTS[name]
    text = (FOLDER / f'{name}.txt').read_bytes()
    assert text.endswith(b'\n')
    assert text.isascii()
    assert b'\r' not in text
    assert b'\t' not in text
    phrases = [phrase for line in classes for phrase in line]
    assert all(phrase and phrase == phrase.strip() and ',' not in phrase for phrase in phrases)


@pytest.mark.parametrize(
    'name, dataset',
    [
        ('context60', theirs.PascalContextDataset),
        ('context59', theirs.PascalContextDataset59),
        ('coco_stuff', theirs.COCOStuffDataset),
        ('cityscapes', theirs.CityscapesDataset),
        ('ade20k', theirs.ADE20KDataset),
    ],
)
def test_single_names_are_the_datasets_in_order(name, dataset):
    assert unspaced(line[0] for line in read(name)) == unspaced(dataset.METAINFO['classes'])


def test_names_run_together_where_the_authors_wrote_them_so():
    """Spacing changes the tokens, so it is part of the published numbers."""
    datasets = dict(
        coco_stuff=theirs.COCOStuffDataset, cityscapes=theirs.CityscapesDataset, ade20k=theirs.ADE20KDataset
    )
    run_together = {}
    for name, dataset in datasets.items():
        pairs = zip(read(name), dataset.METAINFO['classes'], strict=True)
        run_together[name] = sum(line[0] != of_dataset.strip() for line, of_dataset in pairs)
    assert run_together == dict(coco_stuff=15, cityscapes=2, ade20k=15)


@pytest.mark.parametrize(
    'name, dataset, renamed',
    [
        ('voc21', theirs.PascalVOCDataset, {'background', 'boat', 'diningtable', 'tvmonitor'}),
        ('voc20', PascalVOC20Dataset, {'boat', 'diningtable', 'tvmonitor'}),
        ('coco_object', COCOObjectDataset, {'background'}),
    ],
)
def test_first_phrases_stand_in_the_datasets_order(name, dataset, renamed):
    pairs = list(zip(read(name), dataset.METAINFO['classes'], strict=True))
    assert {of_dataset for line, of_dataset in pairs if line[0] != of_dataset} == renamed


def test_synonyms():
    voc21, voc20, coco_object = read('voc21'), read('voc20'), read('coco_object')
    assert voc21[1:] == voc20
    assert voc21[0] == coco_object[0]
    assert len(voc21[0]) == 26
    assert 'background' not in voc21[0]
    assert voc21[4] == ['ship']
    assert voc21[11] == ['table']
    assert voc21[20] == ['television monitor', 'tv monitor', 'monitor', 'television', 'screen']
    assert coco_object[1] == [*voc21[15], 'body']
    assert len(voc21[15]) == 7
    assert [i for i, line in enumerate(coco_object) if 'bed' in line] == [0, 60]


def test_demo_names_the_materials():
    assert tuple(line[0] for line in read('demo')) == MATERIALS
