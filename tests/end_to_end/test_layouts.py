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
    favourites: tuple[int, ...]  # classes that the mini CLIP likes to predict, so that the scores are not all zero
    reduced: bool = False


VOC = ('JPEGImages/{}.jpg', 'SegmentationClass/{}.png', ('2007_000033', '2007_000042'))
ADE20K = ('images/validation/{}.jpg', 'annotations/validation/{}.png', ('ADE_val_00000001', 'ADE_val_00000002'))
VOC21 = Layout('sclip_voc21', 21, *VOC, (0, 2, 16))


def write_dataset(root, layout, recipe):
    """Two images with label maps in blocks of 5 x 5 pixels; some blocks are ignored."""
    rng = np.random.RandomState(7)
    for number, (stem, (height, width)) in enumerate(zip(layout.stems, SIZES, strict=True)):
        blocks = rng.randint(0, layout.classes, (height // 5 + 1, width // 5 + 1))
        liked = rng.choice(layout.favourites, blocks.shape)
        labels = np.where(rng.rand(*blocks.shape) < 0.6, liked, blocks) + layout.reduced
        labels = np.where(rng.rand(*blocks.shape) < 0.1, 255, labels)
        if layout.reduced:
            labels = np.where(rng.rand(*blocks.shape) < 0.1, 0, labels)
        labels = labels.astype(np.uint8).repeat(5, axis=0).repeat(5, axis=1)[:height, :width]
        for name, array in ((layout.image, recipe.image(number, height, width)), (layout.label, labels)):
            path = root / name.format(stem)
            path.parent.mkdir(parents=True, exist_ok=True)
            assert cv2.imwrite(str(path), array)
    split = root / 'ImageSets' / 'Segmentation' / 'val.txt'  # of VOC
    split.parent.mkdir(parents=True)
    split.write_text('\n'.join(layout.stems) + '\n')


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


@pytest.fixture
def check(recipe, mini_json, mini_weights, run_main, tmp_path):
    """`check(layout, config, pairs)` tests a config and looks at its pictures and scores.

    `pairs(maps, truths)` makes what is scored of the label maps that were written and the true ones. The names of all
    folders have spaces.
    """
    root, out, pictures = (tmp_path / name for name in ('my data', 'label maps', 'my pictures'))

    def run(layout, config, pairs):
        write_dataset(root, layout, recipe)
        clip = [shutil.copy(path, tmp_path / f'mini clip{path.suffix}') for path in (mini_json, mini_weights)]
        flags = ['--model-name', clip[0], '--pretrained', clip[1], '--data-root', root]
        options = ('--cfg-options', 'test_dataloader.num_workers=0', 'model.decode_head.templates=simple')
        result = run_main(config, *flags, '--out', out, '--show-dir', pictures, *options)
        assert result.code == 0, result.err[-3000:]
        for folder in (out, pictures):
            assert {path.name for path in folder.iterdir()} == {f'{stem}.png' for stem in layout.stems}
        assert f'{len(SIZES)} pictures are in {pictures}' in result.out
        assert all(cv2.imread(str(path)).std() > 10 for path in pictures.iterdir())
        (metrics,) = [json.loads(path.read_text()) for path in (tmp_path / 'work').glob('*/*.json')]
        assert f'aAcc: {metrics["aAcc"]:.4f}  mIoU: {metrics["mIoU"]:.4f}' in result.out
        maps = [read(out / f'{stem}.png') for stem in layout.stems]
        truths = [read(root / layout.label.format(stem)) for stem in layout.stems]
        accuracy, iou = scores_by_hand(pairs(maps, truths), layout.classes)
        assert iou > 0.2, 'these favourites make the comparison empty'
        # MMSeg rounds to two decimals.
        assert (metrics['aAcc'], metrics['mIoU']) == (pytest.approx(accuracy, abs=0.006), pytest.approx(iou, abs=0.006))

    return run


@pytest.mark.slow
@pytest.mark.parametrize(
    'layout', [VOC21, Layout('sclip_ade20k', 150, *ADE20K, (17, 43, 109, 133), reduced=True)], ids=['voc21', 'ade20k']
)
def test_label_maps_scores_and_pictures(check, layout):
    def pairs(maps, truths):
        for written, truth, size in zip(maps, truths, SIZES, strict=True):
            prediction = written - layout.reduced
            assert prediction.shape == size and prediction.min() >= 0 and prediction.max() < layout.classes
            ignored = (truth == 255) | (layout.reduced & (truth == 0))
            yield prediction, np.where(ignored, 255, truth - layout.reduced)

    check(layout, layout.config, pairs)


@pytest.mark.slow
def test_a_part_of_the_images_is_scored(check):
    """CLIPtrase's protocol: the middle square, at 336 pixels; label maps and pictures show it."""

    def pairs(maps, truths):
        for written, truth in zip(maps, truths, strict=True):
            height, width = truth.shape
            scale = 336 / min(height, width)
            size = (int(width * scale + 0.5), int(height * scale + 0.5))
            image = Image.fromarray(truth.astype(np.uint8)).resize(size, Image.Resampling.NEAREST)
            top, left = (round((side - 336) / 2) for side in size[::-1])
            yield written, np.asarray(image).astype(int)[top : top + 336, left : left + 336]

    check(VOC21, 'cliptrase_voc21', pairs)
