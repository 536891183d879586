"""Real photographs through the command line, against the plain implementation and a plain count.

The photographs are not part of the repository; without them these tests are skipped.
"""

from pathlib import Path
from typing import NamedTuple

import cv2
import mmcv
import numpy as np
import pytest
import torch
from helpers import write_clip
from mmengine.config import Config
from mmseg.registry import MODELS
from reference import Reference

from mmseg_sclip.cli.main import main
from mmseg_sclip.paths import config_path

DATA = Path(__file__).resolve().parents[2] / 'shared' / 'data'
COCO = 'coco_stuff164k', 'images/val2017'


class Set(NamedTuple):
    root: str
    images: str
    labels: str
    short_side: int = 336
    zero_is_ignored: bool = False


SETS = {
    'voc21': Set('voc/VOC2012', 'JPEGImages', 'SegmentationClass/{}.png'),
    'coco_object': Set(*COCO, 'annotations/val2017/{}_instanceTrainIds.png'),
    'coco_stuff164k': Set(*COCO, 'annotations/val2017/{}_labelTrainIds.png', 448),
    'ade20k': Set('ade/ADEChallengeData2016', 'images/validation', 'annotations/validation/{}.png', 336, True),
}


@pytest.mark.slow
@pytest.mark.skipif(not DATA.is_dir(), reason='the photographs are not here')
@pytest.mark.parametrize('name', SETS)
def test_real_photographs(name, recipe, tmp_path, capsys, monkeypatch):
    data, config = SETS[name], Config.fromfile(config_path(f'sclip_{name}'))
    root = DATA / data.root
    state = {key: torch.from_numpy(np.array(value)) for key, value in recipe.mini_clip_state_dict(7).items()}
    config.model.clip = clip = write_clip(tmp_path, state)
    monkeypatch.chdir(tmp_path)
    stems = sorted(path.stem for path in (root / data.images).glob('*.jpg'))
    if name == 'voc21':
        stems = (root / 'ImageSets/Segmentation/val_native.txt').read_text().split()
    stems = stems[:2]
    (tmp_path / 'split.txt').write_text('\n'.join(stems))
    assert config.test_dataloader.dataset.data_prefix.img_path == data.images
    (tmp_path / 'some.py').write_text(
        f'_base_ = {config.filename!r}\n'
        f'test_dataloader = dict(num_workers=0, dataset=dict(ann_file={str(tmp_path / "split.txt")!r}))\n'
    )
    flags = ['--model-name', clip['model_name'], '--pretrained', clip['pretrained'], '--data-root', str(root)]
    flags += ['--out', str(tmp_path / 'out'), '--work-dir', str(tmp_path / 'work'), '--device', 'cpu']
    assert main(['test', str(tmp_path / 'some.py'), *flags]) == 0
    printed = capsys.readouterr()
    line = [line for line in (printed.out + printed.err).splitlines() if 'mIoU:' in line][-1].split()

    model = MODELS.build(config.model).eval()
    classes = model.num_classes
    confusion = np.zeros((classes, classes), int)
    for stem in stems:
        flag = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
        image = cv2.imread(str(root / data.images / f'{stem}.jpg'), flag)
        pixels = torch.from_numpy(mmcv.imrescale(image, (2048, data.short_side))).permute(2, 0, 1)
        (pixels,) = model.data_preprocessor(dict(inputs=[pixels]))['inputs']
        expected = Reference(model).predict(pixels, image.shape[:2]).numpy()
        written = cv2.imread(str(tmp_path / 'out' / f'{stem}.png'), cv2.IMREAD_UNCHANGED) - int(data.zero_is_ignored)
        assert (written == expected).mean() >= 0.9999
        truth = mmcv.imread(str(root / data.labels.format(stem)), 'unchanged', backend='pillow')
        truth = truth.astype(int)
        if data.zero_is_ignored:
            truth = np.where(truth == 0, 255, truth - 1)
        known = truth != 255
        np.add.at(confusion, (truth[known], expected[known]), 1)
    union = confusion.sum(0) + confusion.sum(1) - confusion.diagonal()
    miou = 100 * np.mean((confusion.diagonal() / np.maximum(union, 1))[union > 0])
    accuracy = 100 * confusion.diagonal().sum() / confusion.sum()
    for key, wanted in (('mIoU:', miou), ('aAcc:', accuracy)):
        assert float(line[line.index(key) + 1]) == pytest.approx(wanted, abs=0.02)
