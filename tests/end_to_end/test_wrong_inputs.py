"""What a person can get wrong: exit code 1, no traceback, and one last line that names the cause and the remedy."""

import json
import shutil

import cv2
import numpy as np
import open_clip
import pytest
import torch

from mmseg_sclip.models.text.vocabulary import SHIPPED
from mmseg_sclip.paths import config_path

SIMPLE = 'model.decode_head.templates=simple'
NO_WORKERS = 'test_dataloader.num_workers=0'


def check(code, out, err, words):
    last = err.rstrip('\n').rpartition('\n')[2]
    assert code == 1, out[-2000:] + err
    assert 'Traceback' not in out + err, err[-2000:]
    assert last.startswith('Error: ')
    for word in words:
        assert word in last, last


@pytest.fixture
def fails(run_main, small_voc, mini_json, mini_weights):
    """`fails(*words, config=..., flags=..., options=...)`: the run ends with an error line that holds the words."""

    def run(*words, config='sclip_voc21', clip=(mini_json, mini_weights), data=small_voc, flags=(), options=()):
        clip = ['--model-name', clip[0], *(['--pretrained', clip[1]] if clip[1] else [])]
        result = run_main(
            config, *clip, '--data-root', data, *flags, '--cfg-options', SIMPLE, NO_WORKERS, *options
        )  # later options win
        check(*result, words)

    return run


@pytest.fixture
def own_voc(small_voc, tmp_path):
    """A copy of the small VOC folder, to be damaged."""
    return shutil.copytree(small_voc, tmp_path / 'own VOC2012')


@pytest.fixture
def own_config(tmp_path):
    """Writes a config that inherits from a shipped one."""

    def write(text, base='sclip_voc21'):
        (tmp_path / 'own.py').write_text(f'_base_ = [{str(config_path(base))!r}]\n{text}\n')
        return tmp_path / 'own.py'

    return write


@pytest.fixture
def no_encoding(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError('text was encoded before the error')

    monkeypatch.setattr('mmseg_sclip.models.text.TextEncoder.encode', refuse)


# --- data -------------------------------------------------------------------------------------------------------------

IMAGE, LABEL = 'JPEGImages/1.jpg', 'SegmentationClass/1.png'


def small_image(root):
    cv2.imwrite(str(root / IMAGE), np.zeros((2, 600, 3), np.uint8))  # 7 x 2048 after Resize
    cv2.imwrite(str(root / LABEL), np.zeros((2, 600), np.uint8))


def cut(file):
    return lambda root: (root / file).write_bytes((root / file).read_bytes()[:100])


DATA = {
    'no folder': (lambda root: shutil.rmtree(root), ['VOC2012 does not exist', '--data-root']),
    'no images': (
        lambda root: shutil.rmtree(root / 'JPEGImages'),
        ['JPEGImages does not exist', 'must hold JPEGImages'],
    ),
    'no split': (lambda root: (root / 'ImageSets/Segmentation/val.txt').unlink(), ['val.txt does not exist']),
    'no image': (lambda root: (root / IMAGE).unlink(), ['1.jpg does not exist, but the dataset lists it']),
    'no label map': (lambda root: (root / LABEL).unlink(), ['1.png does not exist, but the dataset lists it']),
    'cut image': (cut(IMAGE), ['1.jpg is damaged', 'Fetch it again']),
    'cut label map': (cut(LABEL), ['1.png is damaged', 'Fetch it again']),
    'small image': (small_image, ['1.jpg', '7 x 2048', '16 x 16', 'Resize']),
    'colours': (
        lambda root: cv2.imwrite(str(root / LABEL), np.zeros((90, 47, 3), np.uint8)),
        [LABEL, 'has channels', 'one class number a pixel'],
    ),
    'size': (lambda root: cv2.imwrite(str(root / LABEL), np.zeros((45, 24), np.uint8)), [LABEL, '45 x 24', '90 x 47']),
}


@pytest.mark.slow
@pytest.mark.filterwarnings('ignore:Please pay attention your ground truth')
@pytest.mark.parametrize('case', DATA)
def test_data(fails, own_voc, case):
    damage, words = DATA[case]
    damage(own_voc)
    fails(*words, data=own_voc)


@pytest.mark.slow
def test_a_damaged_file_in_a_loader_worker(fails, own_voc):
    (own_voc / IMAGE).write_bytes(b'no picture')
    fails('1.jpg is damaged', data=own_voc, options=['test_dataloader.num_workers=2'])


# --- vocabulary and prompts -------------------------------------------------------------------------------------------

LINES = (SHIPPED / 'voc21.txt').read_text().splitlines()
LONG = 'very ' * 80 + 'long cat'
OWN_WORDS = "model = dict(decode_head=dict(vocabulary='words.txt', class_names=None))"
WORDS = {
    'one line short': (
        LINES[:-1],
        OWN_WORDS,
        ['words.txt has 20 classes', 'PascalVOCDataset has 21', 'correct the file'],
    ),
    'one line short for names': (
        LINES[:-1],
        "model = dict(decode_head=dict(vocabulary='words.txt'))",
        ['(PascalVOCDataset) has 21 names', 'words.txt has 20 classes', 'Correct the vocabulary'],
    ),
    'blank line': ([*LINES[:4], '', *LINES[4:]], OWN_WORDS, ['Line 5', 'words.txt is blank', 'delete the line']),
    'long phrase': ([*LINES[:-1], LONG], OWN_WORDS, ['longer than the 77 tokens', LONG, 'Shorten']),
}


@pytest.mark.parametrize('case', WORDS)
def test_words(fails, own_config, tmp_path, case):
    lines, config, words = WORDS[case]
    (tmp_path / 'words.txt').write_text('\n'.join(lines))
    fails(*words, config=own_config(config))


# --- weights ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    'clip, words',
    [
        (('ViT-B-16-quickglu', 'openai'), ["'ViT-B-16-quickglu'", "Did you mean 'ViT-B-16-quickgelu'?"]),
        (('RN50-quickgelu', 'openai'), ['RN50-quickgelu cannot be used', 'ResNet', 'ViT-B-16-quickgelu']),
        (('ViT-B-16', 'openai'), ['were trained with QuickGELU', "model_name='ViT-B-16-quickgelu'"]),
        (('ViT-B-16-quickgelu', 'opnai'), ["'opnai'", "Did you mean 'openai'?"]),
        (('builtin:demo', 'openai'), ['pretrained must be None']),
        (('builtin:dmeo', None), ["'builtin:dmeo'", "'builtin:demo'"]),
        (('local-dir:nowhere', None), ['no folder nowhere']),
        (('missing.json', 'openai'), ['no model description missing.json']),
    ],
    ids=lambda value: value[0].partition('/')[0] if isinstance(value, tuple) else '',
)
def test_model_name(fails, monkeypatch, clip, words):
    def refuse(*args, **kwargs):
        raise AssertionError('the download came before the check')

    monkeypatch.setattr(open_clip, 'download_pretrained', refuse)
    fails(*words, clip=clip)


FILES = {
    'missing.pt': (None, ["'missing.pt'", 'neither a file nor a tag']),
    'page.pt': (b'<!DOCTYPE html><title>404</title>', ['page.pt cannot be read', 'damaged', 'etch it again']),
    'cut.pt': (lambda content: content[:100000], ['cut.pt cannot be read', 'damaged', 'etch it again']),
}


@pytest.mark.parametrize('name', FILES)
def test_weights_file(fails, mini_json, mini_weights, tmp_path, name):
    content, words = FILES[name]
    if content is not None:
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content(mini_weights.read_bytes()))
    fails(*words, clip=(mini_json, name))


def test_weights_of_another_architecture(fails, mini_json, mini_weights, tmp_path):
    model = json.loads(mini_json.read_text())
    model['vision_cfg'].update(layers=4)
    (tmp_path / 'other.json').write_text(json.dumps(model))
    fails('mini.pt do not fit', 'resblocks.3', 'Give the model_name', clip=(tmp_path / 'other.json', mini_weights))


# --- settings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    'option, words',
    [
        ('model.test_cfg.stirde=112', ["'stirde'", "Did you mean 'stride'?"]),
        ('model.test_cfg.mode=slid', ['mode', "Did you mean 'slide'?"]),
        ('model.test_cfg.stride=300', ['stride', 'uncovered']),
        ('model.clip.precison=fp32', ["'precison'", "Did you mean 'precision'?"]),
        ('model.clip.precision=fp8', ["'fp8'", 'fp32']),
        ('model.backbone.decoder.residul=True', ["'residul'", 'backbone.decoder', "Did you mean 'residual'?"]),
        ('model.backbone.decoder.type=LstBlock', ['LstBlock', "Did you mean 'LastBlock'?"]),
        ('model.backbone.decoder.type=IdentityAttention', ['IdentityAttention', 'no Decoder']),
        ('model.backbone.decoder.attention.projections=w', ["'w'", "'q', 'k', 'v'"]),
        (
            'model.backbone.decoder.attention.type=CorelativeSelfAttention',
            ['CorelativeSelfAttention', "Did you mean 'CorrelativeSelfAttention'?", 'custom_imports'],
        ),
        ('model.backbone.positions=scal', ['positions', "Did you mean 'scale'?"]),
        ('model.decode_head.vocabluary=voc21', ["'vocabluary'", "Did you mean 'vocabulary'?"]),
        ('model.decode_head.vocabulary=voc12', ["no vocabulary 'voc12'", "Did you mean 'voc21'"]),
        ('model.decode_head.templates=opneai_imagenet', ["Did you mean 'openai_imagenet'?"]),
        ('model.decode_head.background_index=21', ['background_index is 21', '0 to 20']),
        ('model.decode_head.background_index=None', ['prob_thd', 'background_index is None', 'prob_thd=None']),
        ('model.pretrained=x.pt', ['top-level pretrained', 'clip=']),
        ('modle.test_cfg.stride=112', ["'modle'", "Did you mean 'model'?"]),
        ('stride', ['KEY=VALUE', "'stride' is none"]),
        ('model.decode_head.vocabulary=[traffic light,cat]', ['has spaces in its value', 'config file']),
        ('model.decode_head.vocabulary=[sky(blue,clear),cat]', ['brackets that cannot be read', 'config file']),
        ('load_from=missing.pth', ['no checkpoint missing.pth', 'load_from of the config']),
    ],
    ids=lambda value: value if isinstance(value, str) else '',
)
def test_misspelt_setting(fails, no_encoding, option, words):
    fails(*words, options=[option])


def test_a_module_that_cannot_be_imported(run_main, own_config):
    config = own_config("custom_imports = dict(imports=['mmseg_sclip', 'my_attenshun'], allow_failed_imports=False)")
    check(*run_main(config), ['my_attenshun', 'custom_imports'])


# --- flags and checkpoints --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    'flags, words',
    [
        (['--launcher', 'pytorch'], ['--launcher pytorch belongs to processes', 'leave --launcher out']),
        (['--show'], ['--show needs a screen', '--show-dir']),
        (['--device', 'cuda:99'], ['--device cuda:99 cannot be used', 'cpu']),
        (['--device', 'meta'], ['--device meta cannot be used', 'This machine has: cpu']),
        (['--outt', 'x'], ['--outt', '--help']),
        (['missing.pth'], ['no checkpoint missing.pth', 'leave it out']),
    ],
    ids=lambda value: ' '.join(value) if value[0].startswith('--') else '',
)
def test_flags(fails, monkeypatch, flags, words):
    monkeypatch.delenv('DISPLAY', raising=False)
    monkeypatch.delenv('WAYLAND_DISPLAY', raising=False)
    fails(*words, flags=flags)


@pytest.mark.parametrize('flag', ['--out', '--show-dir', '--work-dir'])
def test_a_file_in_place_of_a_folder(fails, tmp_path, flag):
    (tmp_path / 'file').write_text('kept')
    fails(f'{flag} {tmp_path / "file"} must be a folder', 'another folder', flags=[flag, tmp_path / 'file'])
    assert (tmp_path / 'file').read_text() == 'kept'


@pytest.mark.parametrize(
    'state, words',
    [
        ({'decode_head.conv_seg.weight': torch.zeros(3)}, ['no weight for this model', 'decode_head.conv_seg.weight']),
        ({'backbone.tower.visual.proj': torch.zeros(3, 4)}, ['made for another model', '(3, 4)']),
    ],
    ids=['another model', 'another width'],
)
def test_checkpoint(fails, no_encoding, tmp_path, state, words):
    meta = dict(dataset_meta=dict(classes=['a'], palette=[[0, 0, 0]]))
    torch.save(dict(meta=meta, state_dict=state), tmp_path / 'other.pth')
    fails(*words, flags=[tmp_path / 'other.pth'])
    fails(*words, options=[f'load_from={tmp_path / "other.pth"}'])


@pytest.mark.slow
def test_in_a_process(run_tool, tmp_path):
    result = run_tool('sclip_voc21', '--data-root', tmp_path / 'nowhere', cwd=tmp_path)
    check(result.returncode, result.stdout, result.stderr, ['nowhere does not exist', '--data-root'])
