"""What is wrong with data: exit code 1, and a last line with the cause and the remedy.

Wrong command lines, names and settings are in tests/cli/test_refusals.py.
"""

import shutil

import cv2
import numpy as np
import pytest

IMAGE, LABEL = 'JPEGImages/1.jpg', 'SegmentationClass/1.png'


def small_image(root):
    cv2.imwrite(str(root / IMAGE), np.zeros((2, 600, 3), np.uint8))  # 7 x 2048 after Resize
    cv2.imwrite(str(root / LABEL), np.zeros((2, 600), np.uint8))


def cut(file):
    return lambda root: (root / file).write_bytes((root / file).read_bytes()[:100])


def paint(*shape):
    return lambda root: cv2.imwrite(str(root / LABEL), np.zeros(shape, np.uint8))


DATA = {
    'no folder': (shutil.rmtree, ['VOC2012 does not exist', '--data-root']),
    'no split': (lambda root: (root / 'ImageSets/Segmentation/val.txt').unlink(), ['val.txt does not exist']),
    'no image': (lambda root: (root / IMAGE).unlink(), ['1.jpg does not exist, but the dataset lists it']),
    'cut image': (cut(IMAGE), ['1.jpg is damaged', 'Fetch it again']),
    'small image': (small_image, ['1.jpg', '7 x 2048', '16 x 16', 'Resize']),
    'colours': (paint(90, 47, 3), [LABEL, 'has channels', 'one class number per pixel']),
    'size': (paint(45, 24), [LABEL, '45 x 24', '90 x 47']),
}


@pytest.mark.filterwarnings('ignore:Please pay attention your ground truth')
@pytest.mark.parametrize(
    'case', [pytest.param(case, marks=pytest.mark.slow if 'no' not in case else ()) for case in DATA]
)
def test_data(run_main, small_voc, mini_json, mini_weights, tmp_path, case):
    damage, words = DATA[case]
    own = shutil.copytree(small_voc, tmp_path / 'own VOC2012')
    damage(own)
    flags = ['--model-name', mini_json, '--pretrained', mini_weights, '--data-root', own, '--cfg-options']
    workers = f'test_dataloader.num_workers={int(case == "cut image")}'
    result = run_main('sclip_voc21', *flags, 'model.decode_head.templates=simple', workers)
    assert result.code == 1 and 'Traceback' not in result.out + result.err, result.err[-2000:]
    assert result.last.startswith('Error: ') and all(word in result.last for word in words), result.last
