"""Which images and configs may be compared."""

import shutil
import weakref

import numpy as np
import pytest
from PIL import Image

from mmseg_sclip.config import load_config
from mmseg_sclip.errors import ConfigError
from mmseg_sclip.visual.comparable import check_classes, check_datasets, check_truth
from mmseg_sclip.visual.methods import Method, model_of, short_names
from mmseg_sclip.visual.subjects import Subject, all_subjects, find_subjects

DATASET = 'test_dataloader.dataset'
EXIF = Image.Exif()
EXIF[0x0112] = 6


@pytest.fixture(scope='module')
def small_voc(tmp_path_factory, recipe):
    """A VOC2012 folder with three images, two of one stem, whose labels are their numbers."""
    root, names = tmp_path_factory.mktemp('VOC2012'), ['a/one', 'b/one', 'b/two']
    for number, name in enumerate(names):
        image = Image.fromarray(recipe.image(number, 40, 60)[..., ::-1])
        for folder, suffix, picture in (
            ('JPEGImages', 'jpg', image),
            ('SegmentationClass', 'png', Image.fromarray(np.full((40, 60), number, np.uint8))),
        ):
            (root / folder / name).parent.mkdir(parents=True, exist_ok=True)
            picture.save(root / folder / f'{name}.{suffix}')
    (root / 'ImageSets' / 'Segmentation').mkdir(parents=True)
    (root / 'ImageSets' / 'Segmentation' / 'val.txt').write_text('\n'.join(names))
    return root


def make(root, name='sclip_voc21', **options):
    config = load_config(name, options)
    config.test_dataloader.dataset.data_root = str(root)
    return Method(name, config)


def compare(*methods):
    check_datasets(methods)
    check_truth(all_subjects(methods[0]), methods)


@pytest.fixture
def voc(small_voc):
    return make(small_voc)


@pytest.mark.parametrize(
    'given, index', [('two', 2), ('two.jpg', 2), ('a/one', 0), ('b/one.jpg', 1), ('JPEGImages/b/two.jpg', 2)]
)
def test_images_of_the_dataset_by_name(voc, given, index, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (subject,) = find_subjects([given], voc)
    assert subject.index == index
    packed = subject.pack(voc)
    assert (packed['data_samples'].gt_sem_seg.data == index).all() and packed['inputs'].shape == (3, 336, 504)


def test_files_of_the_dataset(voc, small_voc, monkeypatch):
    path = small_voc / 'JPEGImages' / 'b' / 'one.jpg'
    assert find_subjects([str(path)], voc) == [Subject(voc.dataset.get_data_info(1)['img_path'], 1)]
    monkeypatch.chdir(path.parent)
    two, one = find_subjects(['two.jpg', 'one.jpg'], voc)
    assert one.index == 1
    stored = np.asarray(Image.open(path.with_name('two.jpg')))
    assert np.abs(two.pixels(voc).astype(int) - stored).mean() < 2  # decoders differ a little


def test_own_photographs_are_upright_and_images_of_the_dataset_are_not(recipe, small_voc, tmp_path):
    root = shutil.copytree(small_voc, tmp_path / 'VOC')
    for path in (root / 'JPEGImages' / 'a' / 'one.jpg', tmp_path / 'own.jpg'):
        Image.fromarray(recipe.image(0, 40, 60)[..., ::-1]).save(path, exif=EXIF)
    voc = make(root)
    evaluated, own = find_subjects(['a/one', str(tmp_path / 'own.jpg')], voc)
    assert own == Subject(str(tmp_path / 'own.jpg'), None)
    assert evaluated.pixels(voc).shape == (40, 60, 3) and evaluated.pack(voc)['inputs'].shape == (3, 336, 504)
    packed = own.pack(voc)
    assert own.pixels(voc).shape == (60, 40, 3) and packed['inputs'].shape == (3, 504, 336)
    assert 'gt_sem_seg' not in packed['data_samples']
    assert np.array_equal(np.rot90(evaluated.pixels(voc), -1), own.pixels(voc))
    (root / 'SegmentationClass' / 'a' / 'one.png').unlink()
    assert 'gt_sem_seg' not in evaluated.pack(voc)['data_samples']


@pytest.mark.parametrize(
    'given, error, message',
    [
        (['one'], ConfigError, 'one fits 2 images of the dataset, such as .*a/one.jpg and .*b/one.jpg'),
        (['towo'], FileNotFoundError, "towo is neither a file nor one of the 3 images of .*Did you mean 'two'"),
        (['two', 'b/two.jpg'], ConfigError, 'given twice'),
        (['.'], ConfigError, 'is a folder'),
    ],
)
def test_wrong_names(voc, given, error, message):
    with pytest.raises(error, match=message):
        find_subjects(given, voc)


def test_files_need_no_dataset(small_voc, tmp_path):
    nowhere, path = make(tmp_path / 'nowhere'), small_voc / 'JPEGImages' / 'b' / 'two.jpg'
    assert find_subjects([str(path)], nowhere) == [Subject(str(path), None)]
    with pytest.raises(FileNotFoundError, match='There is no file two, and the dataset .*nowhere.* does not exist'):
        find_subjects(['two'], nowhere)


def test_one_dataset_may_be_written_in_several_ways(small_voc, tmp_path):
    (tmp_path / 'link').symlink_to(small_voc)
    first, other = make(small_voc), make(tmp_path / 'link' / '.')
    other.config.test_dataloader.dataset.update(
        type='BaseSegDataset', metainfo=dict(classes=first.classes), img_suffix='.jpg', ignore_index=255, ann_file=''
    )
    (small_voc / 'order.txt').write_text('b/two\na/one\nb/one')
    shuffled = make(small_voc, **{f'{DATASET}.ann_file': 'order.txt'})
    check_classes([first, other, make(small_voc, 'clip_voc21')])
    compare(first, other, shuffled)
    for subject in all_subjects(first):
        for method in (other, shuffled):
            assert (subject.pack(method)['inputs'] == subject.pack(first)['inputs']).all()


CENTRE = [dict(type='Resize', scale=(1000, 96), keep_ratio=True), dict(type='ScoreCentre', crop_size=64)]


@pytest.mark.parametrize(
    'options, steps, message',
    [
        ({f'{DATASET}.indices': 2}, None, r'b/two.jpg is an image of sclip_voc21 and not of sclip_voc21 \(3 images'),
        ({f'{DATASET}.data_prefix.seg_map_path': 'JPEGImages'}, None, 'different label maps for .*Class.* and .*JPEG'),
        ({f'{DATASET}.reduce_zero_label': True}, None, 'different reduce_zero_label for .*one.jpg: False and True'),
        ({'test_evaluator.ignore_index': 3}, None, 'ignore different labels: 255 and 3'),
        ({}, [0, CENTRE[0], CENTRE[1], 2, 3], 'ScoreCentre or a step before it differs'),
        ({}, [0, 2, 1, 3], 'which can read .*one.jpg: .* LoadAnnotations must stand after Resize'),
        ({}, [0, 1, 3], 'the test pipeline of sclip_voc21 gives no ground truth for .*one.jpg'),
    ],
)
def test_other_samples_or_ground_truth_cannot_be_compared(voc, small_voc, options, steps, message):
    other = make(small_voc, **options)
    dataset = other.config.test_dataloader.dataset
    if steps:
        dataset.pipeline = [dataset.pipeline[step] if isinstance(step, int) else step for step in steps]
    with pytest.raises(ConfigError, match=message):
        compare(voc, other)


def test_names_and_ignored_labels():
    own = {'test_evaluator': dict(type='IoUMetric', iou_metrics=['mIoU'], ignore_index=7)}
    assert short_names(['a/sclip.py', 'b/sclip.py', 'c']) == ['a/sclip', 'b/sclip', 'c']
    assert make(None, 'sclip_demo').ignore_index == (255,)
    assert make(None, 'sclip_demo', **own).ignore_index == (7,)
    assert make(None, 'sclip_demo', **{f'{DATASET}.ignore_index': 9}).metric().ignore_index == (9,)
    assert make(None, 'sclip_demo', **{'test_evaluator.ignore_index': [7, 9]}).ignore_index == (7, 9)


HEAD = dict(type='FCNHead', in_channels=8, channels=8, num_classes=19)


@pytest.mark.parametrize(
    'heads, words',
    [
        (None, 'The vocabulary of mine has 12 classes, but its dataset .* has 21'),
        (HEAD, 'The decode head of mine has 19 classes, but its dataset .* has 21'),
        ([dict(HEAD, num_classes=21), HEAD], 'The decode head of mine has 19 classes'),  # the last one predicts
    ],
)
def test_a_model_of_another_dataset(heads, words):
    config = load_config('sclip_voc21')
    config.model.decode_head.update(vocabulary='demo', class_names=None)
    if heads is not None:
        config.model = dict(type='EncoderDecoder', decode_head=heads)
    with pytest.raises(ConfigError, match=words):
        Method('mine', config)


def test_the_models_of_one_pass_are_in_memory():
    methods = [make(None, name) for name in ('sclip_demo', 'clip_demo')]
    with model_of(methods, 'cpu') as model:
        reference = weakref.ref(model)
        assert len(model.methods) == 2
        del model
    assert reference() is None
