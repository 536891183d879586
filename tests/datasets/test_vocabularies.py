"""The shipped vocabularies, read with a parser of their own."""

from pathlib import Path

import pytest

import mmseg_sclip  # before mmseg, which cannot be imported first with mmcv-lite

# isort: split
from mmseg import datasets as theirs

from mmseg_sclip.datasets import COCOObjectDataset, PascalVOC20Dataset
from mmseg_sclip.datasets.scenes import MATERIALS

FOLDER = Path(mmseg_sclip.__file__).parent / 'datasets' / 'vocabularies'
COUNTS = dict(
    **dict(voc21=(21, 56), voc20=(20, 30), context60=(60, 60), context59=(59, 59), coco_object=(81, 113)),
    **dict(coco_stuff=(171, 171), cityscapes=(19, 19), ade20k=(150, 150), demo=(12, 12)),
    **dict(voc21_plain=(21, 21), voc20_plain=(20, 20), coco_object_plain=(81, 81)),
    **dict(voc21_names=(21, 21), voc20_names=(20, 20)),
    **dict(voc21_proxyclip=(21, 46), coco_object_proxyclip=(81, 97)),
    **dict(voc21_people=(21, 56), voc20_people=(20, 30), cityscapes_people=(19, 19), context60_people=(60, 60)),
    **dict(context59_people=(59, 59), ade20k_people=(150, 150), coco_stuff_people=(171, 171)),
    **dict(voc21_corrclip=(21, 46), voc20_corrclip=(20, 20), coco_object_corrclip=(81, 96)),
    **dict(voc21_merged=(21, 46), voc20_merged=(20, 20), coco_object_merged=(81, 106)),
    **dict(voc21_cliptrase=(21, 52), voc20_cliptrase=(20, 20), context60_cliptrase=(60, 60)),
    **dict(context59_cliptrase=(59, 59), coco_object_cliptrase=(81, 187), coco_stuff_cliptrase=(171, 171)),
    **dict(ade20k_cliptrase=(150, 150), ade20k_cliper=(150, 150), coco_object_cliper=(81, 103)),
    **dict(voc21_lposs=(21, 46), voc20_lposs=(20, 20), coco_object_lposs=(81, 97)),
    **dict(voc21_cliper=(21, 45), voc20_cliper=(20, 20), context60_cliper=(60, 60), context59_cliper=(59, 59)),
    **dict(voc21_peers=(21, 21), voc20_peers=(20, 20), context60_peers=(60, 60), context59_peers=(59, 59)),
    **dict(cityscapes_names=(19, 19), ade20k_names=(150, 150), coco_stuff_names=(171, 171)),
)


def read(name: str) -> list[list[str]]:
    lines = (FOLDER / f'{name}.txt').read_text().splitlines()
    return [line.split(', ') for line in lines if not line.startswith('#')]


def unspaced(names) -> list[str]:
    return [name.replace(' ', '') for name in names]


def test_counts_and_form():
    shipped = {file.stem: read(file.stem) for file in FOLDER.glob('*.txt')}
    assert {name: (len(lines), sum(map(len, lines))) for name, lines in shipped.items()} == COUNTS
    for name, lines in shipped.items():
        text = (FOLDER / f'{name}.txt').read_bytes()
        assert text.endswith(b'\n') and text.isascii() and b'\r' not in text and b'\t' not in text, name
        phrases = [phrase for line in lines for phrase in line]
        assert all(phrase and phrase == phrase.strip() and ',' not in phrase for phrase in phrases), name


CLASSES = dict(
    context60=theirs.PascalContextDataset,
    context59=theirs.PascalContextDataset59,
    coco_stuff=theirs.COCOStuffDataset,
    cityscapes=theirs.CityscapesDataset,
    ade20k=theirs.ADE20KDataset,
)


@pytest.mark.parametrize('name', CLASSES)
def test_single_names_are_the_datasets_in_order(name):
    assert unspaced(line[0] for line in read(name)) == unspaced(CLASSES[name].METAINFO['classes'])


RENAMED = dict(
    voc21=(theirs.PascalVOCDataset, {'background', 'boat', 'diningtable', 'tvmonitor'}),
    voc20=(PascalVOC20Dataset, {'boat', 'diningtable', 'tvmonitor'}),
    coco_object=(COCOObjectDataset, {'background'}),
)


@pytest.mark.parametrize('name', RENAMED)
def test_first_phrases_stand_in_the_datasets_order(name):
    pairs = zip(read(name), RENAMED[name][0].METAINFO['classes'], strict=True)
    assert {of_dataset for line, of_dataset in pairs if line[0] != of_dataset} == RENAMED[name][1]


def test_synonyms():
    voc21, coco_object = read('voc21'), read('coco_object')
    assert voc21[1:] == read('voc20') and voc21[0] == coco_object[0]
    assert len(voc21[0]) == 26 and 'background' not in voc21[0]
    assert (voc21[4], voc21[11]) == (['ship'], ['table'])
    assert voc21[20] == ['television monitor', 'tv monitor', 'monitor', 'television', 'screen']
    assert coco_object[1] == [*voc21[15], 'body'] and len(voc21[15]) == 7
    assert [i for i, line in enumerate(coco_object) if 'bed' in line] == [0, 60]
    assert tuple(line[0] for line in read('demo')) == MATERIALS


PERSON = 'person in shirt jeans dress sweater skirt jacket'
CHANGED = dict(
    voc21_plain={0: ['background'], 15: ['person'], 20: ['tvmonitor']},
    voc20_plain={14: ['person'], 19: ['tvmonitor']},
    coco_object_plain={0: ['background'], 1: ['person']},
    voc20_merged={14: [PERSON], 19: ['television monitor screen']},
    coco_object_merged={1: [f'{PERSON} body']},
    voc21_proxyclip={15: ['person'], 20: ['tvmonitor']},
    cityscapes_people={11: ['people']},
    context60_people={37: ['people']},
    context59_people={36: ['people']},
    ade20k_people={12: ['people']},
    coco_stuff_people={0: ['people']},
    context59_cliptrase={49: ['diningtable']},
    ade20k_cliper={12: ['person with cloth people human']},
)


@pytest.mark.parametrize('name', CHANGED)
def test_variants_differ_from_sclips_in_these_classes_only(name):
    classes = dict(enumerate(read(name.rpartition('_')[0])))
    assert dict(enumerate(read(name))) == {**classes, **CHANGED[name]} != classes


def test_variants_that_differ_by_a_rule():
    for name, index in (('voc21', 15), ('voc20', 14)):
        renamed = [phrase.replace('person', 'people') for phrase in read(name)[index]]
        assert read(f'{name}_people') == [*read(name)[:index], renamed, *read(name)[index + 1 :]]
    coco_object = read('coco_object_proxyclip')
    assert coco_object[1:] == read('coco_object_plain')[1:]
    assert coco_object[0] == [word for word in read('coco_object')[0] if word in coco_object[0]]
    for with_background, without in (('voc21', 'voc20'), ('context60', 'context59')):
        for variant in ('cliptrase', 'cliper', 'people' if with_background == 'context60' else 'corrclip'):
            assert read(f'{with_background}_{variant}')[1:] == read(f'{without}_{variant}')
    for name in ('voc20', 'coco_object'):
        plain = [['people'] if line == ['person'] else line for line in read(f'{name}_plain')]
        assert read(f'{name}_corrclip')[1:] == plain[1:]
    assert read('voc21_corrclip')[0] == read('voc21')[0] and len(read('coco_object_corrclip')[0]) == 16
    assert read('voc21_lposs') == [read('voc21')[0], *read('voc20_lposs')]
    of_voc = [line[0].replace(' ', '') for line in read('voc20_lposs')]
    assert of_voc == list(PascalVOC20Dataset.METAINFO['classes'])
    british = [line[0].replace('aeroplane', 'airplane') for line in read('coco_object_lposs')[1:]]
    assert british == list(COCOObjectDataset.METAINFO['classes'][1:])
    assert {*read('coco_object_lposs')[0]} < {*read('voc21')[0]}
    for name, dataset in (('ade20k', theirs.ADE20KDataset), ('coco_stuff', theirs.COCOStuffDataset)):
        assert [line[0] for line in read(f'{name}_cliptrase')] == [c.strip() for c in dataset.METAINFO['classes']]
    assert [line[0] for line in read('coco_object_cliptrase')[1:]] == list(COCOObjectDataset.METAINFO['classes'][1:])
