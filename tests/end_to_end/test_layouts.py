"""tools/test.py on a small dataset in a benchmark's layout, scored again by hand.

That each config finds its files and label ids is tested in tests/datasets/test_datasets.py.
"""

import json
import shutil
from typing import NamedTuple

import cv2
import numpy as np
import pytest
from PIL import Image

SIZES = ((61, 83), (90, 47))  # (height, width): different and odd, one landscape and one portrait


class Layout(NamedTuple):
    """Where a benchmark's files lie, and how its label maps are stored."""

    config: str
    classes: int
    image: str
    label: str
    stems: tuple[str, str]
    split: str | None = None
    reduce_zero_label: bool = False
    favourites: tuple[int, ...] = ()  # classes that the mini CLIP likes to predict, so that the scores are not all zero


VOC = Layout(
    'sclip_voc21',
    21,
    'JPEGImages/{}.jpg',
    'SegmentationClass/{}.png',
    ('2007_000033', '2007_000042'),
    'ImageSets/Segmentation/val.txt',
    favourites=(0, 2, 16),
)
CITYSCAPES = Layout(
    'sclip_cityscapes',
    19,
    'leftImg8bit/val/{}_leftImg8bit.png',
    'gtFine/val/{}_gtFine_labelTrainIds.png',
    ('frankfurt/frankfurt_000000_000294', 'munster/munster_000000_000019'),
    favourites=(0, 2, 7, 10),
)
ADE20K = Layout(
    'sclip_ade20k',
    150,
    'images/validation/{}.jpg',
    'annotations/validation/{}.png',
    ('ADE_val_00000001', 'ADE_val_00000002'),
    reduce_zero_label=True,
    favourites=(17, 43, 109, 133),
)


def write(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), array)


def write_dataset(root, layout, recipe):
    """Two images with label maps in blocks of 5 x 5 pixels; some blocks are ignored."""
    rng = np.random.RandomState(7)
    for number, (stem, (height, width)) in enumerate(zip(layout.stems, SIZES, strict=True)):
        write(root / layout.image.format(stem), recipe.image(number, height, width))
        blocks = rng.randint(0, layout.classes, (height // 5 + 1, width // 5 + 1))
        liked = rng.choice(layout.favourites, blocks.shape)
        labels = np.where(rng.rand(*blocks.shape) < 0.6, liked, blocks) + layout.reduce_zero_label
        labels = np.where(rng.rand(*blocks.shape) < 0.1, 255, labels)
        if layout.reduce_zero_label:
            labels = np.where(rng.rand(*blocks.shape) < 0.1, 0, labels)
        labels = labels.astype(np.uint8).repeat(5, axis=0).repeat(5, axis=1)[:height, :width]
        write(root / layout.label.format(stem), labels)
    if layout.split:
        (root / layout.split).parent.mkdir(parents=True)
        (root / layout.split).write_text('\n'.join(layout.stems) + '\n')


def read(path):
    array = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert array is not None and array.ndim == 2 and array.dtype == np.uint8, path
    return array.astype(int)


def scores_by_hand(pairs, classes):
    """aAcc and mIoU in percent of (prediction, truth) pairs, both with labels from 0 on and 255 in truth ignored."""
    union, both, right, counted = np.zeros(classes), np.zeros(classes), 0, 0
    for prediction, truth in pairs:
        known = truth != 255
        right, counted = right + (prediction == truth)[known].sum(), counted + known.sum()
        for c in range(classes):
            both[c] += ((prediction == c) & (truth == c) & known).sum()
            union[c] += (((prediction == c) | (truth == c)) & known).sum()
    return 100 * right / counted, 100 * (both[union > 0] / union[union > 0]).mean()


def run_layout(run_main, layout, config, root, clip):
    """Test a config, look at its pictures, and give its metrics, the label maps and the true ones."""
    out, pictures, work = (root.parent / name for name in ('label maps', 'my pictures', 'work'))
    options = ('--cfg-options', 'test_dataloader.num_workers=0', 'model.decode_head.templates=simple')
    flags = ('--data-root', root, '--out', out, '--show-dir', pictures)
    result = run_main(config, *clip, *flags, *options)
    assert result.code == 0, result.err[-3000:]
    stems = [(root / layout.image.format(stem)).stem for stem in layout.stems]
    for folder in (out, pictures):
        assert {path.name for path in folder.iterdir()} == {f'{stem}.png' for stem in stems}
    assert f'{len(SIZES)} pictures are in {pictures}' in result.out
    assert all(cv2.imread(str(path)).std() > 10 for path in pictures.iterdir())
    (metrics,) = [json.loads(path.read_text()) for path in work.glob('*/*.json')]
    assert f'aAcc: {metrics["aAcc"]:.4f}  mIoU: {metrics["mIoU"]:.4f}' in result.out
    return (
        metrics,
        [read(out / f'{stem}.png') for stem in stems],
        [read(root / layout.label.format(s)) for s in layout.stems],
    )


def check_scores(metrics, pairs, classes):
    accuracy, iou = scores_by_hand(pairs, classes)
    assert iou > 0.2, 'these favourites make the comparison empty'
    # MMSeg rounds to two decimals.
    assert (metrics['aAcc'], metrics['mIoU']) == (pytest.approx(accuracy, abs=0.006), pytest.approx(iou, abs=0.006))


@pytest.fixture(scope='module')
def spaced_clip(mini_json, mini_weights, tmp_path_factory):
    """The flags for the mini CLIP in a folder whose name has spaces."""
    folder = tmp_path_factory.mktemp('my own weights')
    paths = [shutil.copy(path, folder / f'mini clip{path.suffix}') for path in (mini_json, mini_weights)]
    return ['--model-name', paths[0], '--pretrained', paths[1]]


@pytest.mark.parametrize(
    'layout', [VOC, ADE20K, pytest.param(CITYSCAPES, marks=pytest.mark.slow)], ids=lambda layout: layout.config
)
def test_label_maps_scores_and_pictures(layout, recipe, spaced_clip, run_main, tmp_path):
    root = tmp_path / 'my data'
    write_dataset(root, layout, recipe)
    metrics, maps, truths = run_layout(run_main, layout, layout.config, root, spaced_clip)
    pairs = []
    for written, truth, size in zip(maps, truths, SIZES, strict=True):
        prediction = written - layout.reduce_zero_label
        assert prediction.shape == size and prediction.min() >= 0 and prediction.max() < layout.classes
        if layout.reduce_zero_label:
            truth = np.where((truth == 0) | (truth == 255), 255, truth - 1)
        pairs.append((prediction, truth))
    check_scores(metrics, pairs, layout.classes)


@pytest.mark.slow
def test_a_part_of_the_images_is_scored(recipe, spaced_clip, run_main, tmp_path):
    """CLIPtrase's protocol: the middle square, at 336 pixels; label maps and pictures show it."""
    layout, root = VOC, tmp_path / 'my data'
    write_dataset(root, layout, recipe)
    metrics, maps, truths = run_layout(run_main, layout, 'cliptrase_voc21', root, spaced_clip)
    pairs = []
    for written, truth in zip(maps, truths, strict=True):
        height, width = truth.shape
        scale = 336 / min(height, width)
        size = (int(width * scale + 0.5), int(height * scale + 0.5))
        image = Image.fromarray(truth.astype(np.uint8)).resize(size, Image.Resampling.NEAREST)
        top, left = (round((side - 336) / 2) for side in size[::-1])
        pairs.append((written, np.asarray(image).astype(int)[top : top + 336, left : left + 336]))
    check_scores(metrics, pairs, layout.classes)
