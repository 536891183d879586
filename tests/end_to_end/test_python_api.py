"""MMSegmentation's and MMEngine's own functions on our configs, and a user's files outside the package."""

import json

import cv2
import numpy as np
import pytest
from mmengine.config import Config
from mmengine.runner import Runner
from mmseg.apis import inference_model, init_model, show_result_pyplot
from PIL import Image

from mmseg_sclip.cli.configuring import load_config
from mmseg_sclip.paths import config_path

SIZES = ((61, 83), (90, 47))


@pytest.fixture
def config(mini_clip, small_voc, tmp_path):
    """VOC20 (no thresholds, so that several classes show) with the mini CLIP and one template."""
    config = load_config('sclip_voc20')
    config.model.clip.update(mini_clip)
    config.model.decode_head.templates = 'simple'
    config.test_dataloader.dataset.data_root = str(small_voc)
    config.test_dataloader.num_workers = 0
    config.work_dir = str(tmp_path / 'work')
    return config


@pytest.fixture
def model(fresh_engine, config, device):
    return init_model(config, device=str(device))


@pytest.fixture
def files(small_voc):
    return [str(small_voc / 'JPEGImages' / f'{number}.jpg') for number in range(2)]


def labels(sample):
    return sample.pred_sem_seg.data[0].cpu().numpy()


def test_one_file_many_files_and_arrays(model, files):
    one_by_one = [labels(inference_model(model, file)) for file in files]
    assert [array.shape for array in one_by_one] == list(SIZES)
    assert all(len(np.unique(array)) > 2 for array in one_by_one)
    arrays = [cv2.imread(file) for file in files]
    for given in (files, arrays):
        for sample, wanted in zip(inference_model(model, given), one_by_one, strict=True):
            np.testing.assert_array_equal(labels(sample), wanted)
    np.testing.assert_array_equal(labels(inference_model(model, arrays[1])), one_by_one[1])


def test_the_api_and_the_command_agree(model, files, config, run_main, mini_clip, small_voc, tmp_path):
    clip = ['--model-name', mini_clip['model_name'], '--pretrained', mini_clip['pretrained']]
    options = ['--cfg-options', 'model.decode_head.templates=simple']
    result = run_main('sclip_voc20', *clip, '--data-root', small_voc, '--out', tmp_path / 'out', *options)
    assert result.code == 0, result.err
    for number, file in enumerate(files):
        written = cv2.imread(str(tmp_path / 'out' / f'{number}.png'), cv2.IMREAD_UNCHANGED)
        agree = written == labels(inference_model(model, file)) + 1  # label maps as VOC stores them: 0 is background
        assert agree.mean() > 0.999


def test_the_stored_orientation_counts(model, files, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees
    turned = tmp_path / 'turned.jpg'
    image = Image.open(files[0])
    image.save(turned, exif=exif, quality=95)
    image.save(tmp_path / 'plain.jpg', quality=95)
    assert cv2.imread(str(turned)).shape[:2] == SIZES[0][::-1]  # what OpenCV does unless it is told otherwise
    wanted = labels(inference_model(model, str(tmp_path / 'plain.jpg')))
    np.testing.assert_array_equal(labels(inference_model(model, str(turned))), wanted)


@pytest.mark.filterwarnings('ignore:Failed to add .*VisBackend')
def test_picture(model, files, tmp_path):
    result = inference_model(model, files[0])
    path = tmp_path / 'picture.png'
    show_result_pyplot(model, files[0], result, show=False, out_file=str(path), with_labels=False, opacity=1.0)
    picture = cv2.imread(str(path))[..., ::-1]
    palette = np.array(model.dataset_meta['palette'])
    assert model.dataset_meta['classes'][0] == 'aeroplane'
    np.testing.assert_array_equal(picture, palette[labels(result)])


def test_the_demo_needs_no_checkpoint(fresh_engine, device, recipe):
    model = init_model(str(config_path('sclip_demo')), device=str(device))
    result = inference_model(model, recipe.image(0, 96, 80))
    assert labels(result).shape == (96, 80)
    assert model.dataset_meta['classes'][:2] == ['grass', 'water']


def test_runner(fresh_engine, config, small_voc, tmp_path):
    metrics = Runner.from_cfg(config).test()
    assert {'aAcc', 'mIoU', 'mAcc'} <= set(metrics)
    (written,) = [json.loads(path.read_text()) for path in (tmp_path / 'work').glob('*/*.json')]
    assert written['mIoU'] == pytest.approx(metrics['mIoU'])


def test_runner_without_our_default_runtime(fresh_engine, config):
    """A user's config may have its own runtime; only the imports are needed."""
    keys = ('model', 'test_dataloader', 'test_evaluator', 'test_cfg', 'work_dir')
    bare = Config({key: config[key] for key in keys} | dict(default_scope='mmseg'))
    assert 'mIoU' in Runner.from_cfg(bare).test()


OWN_MODULE = """
import torch
from mmseg.registry import MODELS
from mmseg_sclip.models import Attention

@MODELS.register_module(force=True)
class LookAroundAttention(Attention):
    def terms(self, b):
        return [0 * (b.q @ b.k.transpose(-1, -2))]  # every token sees the mean of all
"""
OWN_CONFIG = """
_base_ = [{base!r}]
custom_imports = dict(imports=['mmseg_sclip', {module!r}], allow_failed_imports=False)
model = dict(
    clip=dict(model_name={model_name!r}, pretrained={pretrained!r}),
    backbone=dict(decoder=dict(attention=dict(_delete_=True, type={attention!r}))),
    decode_head=dict(vocabulary='words/own.txt', templates=['a {{}}.'], class_names=None))
test_dataloader = dict(dataset=dict(data_root={data_root!r}))
"""


def test_own_config_module_and_vocabulary(run_main, mini_clip, small_voc, tmp_path):
    home = tmp_path / 'my project'
    (home / 'words').mkdir(parents=True)
    (home / 'words' / 'own.txt').write_text('# mine\n' + '\n'.join(f'thing {i}, object {i}' for i in range(20)))
    (home / 'look_around.py').write_text(OWN_MODULE)
    maps = {}
    for attention in ('LookAroundAttention', 'CorrelativeSelfAttention'):
        text = OWN_CONFIG.format(
            base=str(config_path('sclip_voc20')),
            module='look_around',
            attention=attention,
            data_root=str(small_voc),
            **mini_clip,
        )
        (home / 'own.py').write_text(text)
        result = run_main(home / 'own.py', '--out', tmp_path / attention)  # the current folder is tmp_path
        assert result.code == 0, result.err
        assert 'thing 3' not in result.out and 'aeroplane' in result.out  # tables use the dataset's names
        maps[attention] = cv2.imread(str(tmp_path / attention / '0.png'), cv2.IMREAD_UNCHANGED)
    assert maps['LookAroundAttention'].shape == SIZES[0]
    assert (maps['LookAroundAttention'] != maps['CorrelativeSelfAttention']).any()


def test_vocabulary_in_the_current_folder(run_main, mini_clip, small_voc, tmp_path):
    (tmp_path / 'here.txt').write_text('\n'.join(f'thing {number}' for number in range(20)))
    clip = ['--model-name', mini_clip['model_name'], '--pretrained', mini_clip['pretrained']]
    options = ['model.decode_head.vocabulary=here.txt', 'model.decode_head.class_names=None']
    result = run_main('sclip_voc20', *clip, '--data-root', small_voc, '--cfg-options', *options)
    assert result.code == 0, result.err
