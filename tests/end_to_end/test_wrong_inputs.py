"""What is wrong with data, words, weights and settings: exit code 1, and a last line with the cause and the remedy.

Wrong command lines are in tests/cli/test_refusals.py.
"""

import json
import shutil

import cv2
import numpy as np
import open_clip
import pytest

OPTIONS = ('model.decode_head.templates=simple', 'test_dataloader.num_workers=0')


@pytest.fixture
def fails(run_main, small_voc, mini_json, mini_weights):
    """`fails(words, config=..., flags=..., options=...)`: the run ends with an error line that holds the words."""

    def run(words, config='sclip_voc21', clip=(mini_json, mini_weights), data=small_voc, flags=(), options=()):
        clip = ['--model-name', clip[0], *(['--pretrained', clip[1]] if clip[1] else [])]
        result = run_main(config, *clip, '--data-root', data, *flags, '--cfg-options', *OPTIONS, *options)
        assert result.code == 1 and 'Traceback' not in result.out + result.err, result.err[-2000:]
        assert result.last.startswith('Error: ') and all(word in result.last for word in words), result.last

    return run


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
    'colours': (paint(90, 47, 3), [LABEL, 'has channels', 'one class number a pixel']),
    'size': (paint(45, 24), [LABEL, '45 x 24', '90 x 47']),
}


@pytest.mark.filterwarnings('ignore:Please pay attention your ground truth')
@pytest.mark.parametrize(
    'case', [pytest.param(case, marks=pytest.mark.slow if 'no' not in case else ()) for case in DATA]
)
def test_data(fails, small_voc, tmp_path, case):
    damage, words = DATA[case]
    own = shutil.copytree(small_voc, tmp_path / 'own VOC2012')
    damage(own)
    fails(words, data=own, options=['test_dataloader.num_workers=1'] if case == 'cut image' else ())


@pytest.mark.parametrize(
    'name, pretrained, words',
    [
        ('ViT-B-16-quickglu', 'openai', ["'ViT-B-16-quickglu'", "Did you mean 'ViT-B-16-quickgelu'?"]),
        ('ViT-B-16-quickgelu', 'opnai', ["'opnai'", "Did you mean 'openai'?"]),
        ('builtin:dmeo', None, ["'builtin:dmeo'", "'builtin:demo'"]),
        ('local-dir:nowhere', None, ['no folder nowhere']),
        ('mini.json', 'page.pt', ['page.pt cannot be read', 'damaged', 'etch it again']),
        ('mini.json', 'cut.pt', ['cut.pt cannot be read', 'damaged', 'etch it again']),
        ('other.json', 'mini.pt', ['mini.pt do not fit', 'resblocks.3', 'Give the model_name']),
    ],
)
def test_weights(fails, monkeypatch, mini_json, mini_weights, tmp_path, name, pretrained, words):
    monkeypatch.delattr(open_clip, 'download_pretrained')  # the check comes before it
    model, content = json.loads(mini_json.read_text()), mini_weights.read_bytes()
    (tmp_path / 'mini.json').write_text(json.dumps(model))
    model['vision_cfg'].update(layers=4)
    (tmp_path / 'other.json').write_text(json.dumps(model))
    pages = {'page.pt': b'<!DOCTYPE html><title>404</title>', 'cut.pt': content[:100000], 'mini.pt': content}
    for file, text in pages.items():
        (tmp_path / file).write_bytes(text)
    fails(words, clip=(name, pretrained))


@pytest.fixture
def no_encoding(monkeypatch):
    """The text tower, which takes long, is not asked before an error is told."""
    monkeypatch.delattr('mmseg_sclip.models.text.TextEncoder.encode')


@pytest.mark.parametrize(
    'option, words',
    [
        ('model.clip.precison=fp32', ["'precison'", "Did you mean 'precision'?"]),
        ('model.clip.precision=fp8', ["'fp8'", 'fp32']),
        ('model.backbone.decoder.residul=True', ["'residul'", 'backbone.decoder', "Did you mean 'residual'?"]),
        ('model.backbone.decoder.type=LstBlock', ['LstBlock', "Did you mean 'LastBlock'?"]),
        ('model.backbone.decoder.attention.type=CorelativeSelfAttention', ["mean 'Correlative", 'custom_imports']),
        ('model.decode_head.templates=opneai_imagenet', ["Did you mean 'openai_imagenet'?"]),
        ('model.decode_head.background_index=21', ['background_index is 21', '0 to 20']),
        ('model.pretrained=x.pt', ['top-level pretrained', 'clip=']),
    ],
)
def test_settings(fails, no_encoding, option, words):
    fails(words, options=[option])
