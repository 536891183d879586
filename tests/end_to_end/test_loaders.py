"""One CLIP from every place that weights come from: the label maps must be the same to the last pixel."""

import json

import cv2
import numpy as np
import open_clip
import pytest
from safetensors.torch import save_file

from mmseg_sclip.cli import main

OPTIONS = ['--cfg-options', 'model.decode_head.templates=simple', 'test_dataloader.num_workers=0']
pytestmark = pytest.mark.filterwarnings('ignore:.torch.jit:FutureWarning')
COMMIT = '0123456789abcdef0123456789abcdef01234567'
MEAN, STD = open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD


def hub_folder(folder, state, model):
    folder.mkdir(parents=True)
    content = dict(model_cfg=model, preprocess_cfg=dict(mean=MEAN, std=STD))
    (folder / 'open_clip_config.json').write_text(json.dumps(content))
    save_file(state, folder / 'open_clip_model.safetensors')


def hub_cache(cache, repository, state, model):
    """The cache folder that the Hugging Face client would have left behind."""
    root = cache / f'models--{repository.replace("/", "--")}'
    hub_folder(root / 'snapshots' / COMMIT, state, model)
    (root / 'refs').mkdir()
    (root / 'refs' / 'main').write_text(COMMIT)


def label_maps(folder):
    maps = [cv2.imread(str(folder / f'{number}.png'), cv2.IMREAD_UNCHANGED) for number in range(2)]
    assert [labels.shape for labels in maps] == [(61, 83), (90, 47)]
    return maps


@pytest.fixture(scope='module')
def expected(mini_json, mini_weights, small_voc, tmp_path_factory):
    """The label maps that a plain state dict gives."""
    folder = tmp_path_factory.mktemp('expected')
    clip = ['--model-name', mini_json, '--pretrained', mini_weights]
    flags = ['--data-root', small_voc, '--out', folder / 'out', '--work-dir', folder / 'work']
    assert main.main(['test', 'sclip_voc20', *map(str, [*clip, *flags, *OPTIONS])]) == 0
    maps = label_maps(folder / 'out')
    assert all(len(np.unique(labels)) > 2 for labels in maps)  # or any weights would do
    return maps


@pytest.fixture
def same_maps(run_main, small_voc, expected, tmp_path):
    """Runs the command and compares its label maps."""

    def run(*flags, options=()):
        out = tmp_path / 'out'
        result = run_main('sclip_voc20', '--data-root', small_voc, '--out', out, *flags, *OPTIONS, *options)
        assert result.code == 0, result.err
        for labels, wanted in zip(label_maps(out), expected, strict=True):
            np.testing.assert_array_equal(labels, wanted)
        return result

    return run


@pytest.mark.slow
def test_a_file_does_not_tell_its_activation(mini_state, mini_json, same_maps, tmp_path):
    save_file(mini_state, tmp_path / 'weights.safetensors')
    result = same_maps('--model-name', mini_json, '--pretrained', tmp_path / 'weights.safetensors')
    assert f'weights.safetensors does not tell its activation; {mini_json} runs it with QuickGELU' in result.out


def test_openai_archive(openai_archive, mini_state, mini_json, same_maps, tmp_path):
    openai_archive(tmp_path / 'ViT-mini.pt', mini_state)
    result = same_maps('--model-name', mini_json, '--pretrained', tmp_path / 'ViT-mini.pt')
    assert 'does not tell its activation' not in result.out  # OpenAI's archives do


@pytest.mark.slow
def test_local_folder(mini_state, mini_json, same_maps, tmp_path):
    hub_folder(tmp_path / 'my clip', mini_state, json.loads(mini_json.read_text()))
    same_maps('--model-name', f'local-dir:{tmp_path / "my clip"}')


@pytest.fixture
def no_network(monkeypatch):
    monkeypatch.setattr('huggingface_hub.constants.HF_HUB_OFFLINE', True)


@pytest.mark.slow
def test_hub_without_a_network(no_network, mini_state, mini_json, same_maps, tmp_path):
    hub_cache(tmp_path / 'cache', 'someone/mini-clip', mini_state, json.loads(mini_json.read_text()))
    options = [f'model.clip.cache_dir={tmp_path / "cache"}']
    same_maps('--model-name', 'hf-hub:someone/mini-clip', options=options)


@pytest.fixture
def mini_named_b16(no_network, mini_json, monkeypatch):
    """A real name and its real tag, with the mini CLIP's size behind them."""
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, 'ViT-B-16-quickgelu', json.loads(mini_json.read_text()))


@pytest.mark.slow
def test_tag_from_a_prepared_cache(mini_state, mini_json, mini_named_b16, same_maps, tmp_path):
    hub_cache(
        tmp_path / 'cache', 'timm/vit_base_patch16_clip_224.openai', mini_state, json.loads(mini_json.read_text())
    )
    clip = ['--model-name', 'ViT-B-16-quickgelu', '--pretrained', 'openai']
    same_maps(*clip, options=[f'model.clip.cache_dir={tmp_path / "cache"}'])


def test_tag_that_is_in_no_cache(mini_named_b16, small_voc, run_main, tmp_path):
    result = run_main('sclip_voc20', '--data-root', small_voc, *OPTIONS, f'model.clip.cache_dir={tmp_path / "cache"}')
    assert result.code == 1 and 'Traceback' not in result.err
    for words in ('Error: ', "'openai'", 'cache', 'pretrained', 'HF_ENDPOINT'):
        assert words in result.last


@pytest.mark.slow
def test_archive_that_openai_left_in_the_cache(
    openai_archive, mini_state, mini_named_b16, same_maps, monkeypatch, tmp_path
):
    tag = open_clip.get_pretrained_cfg('ViT-B-16-quickgelu', 'openai')
    tags = dict(openai=dict(tag, url='https://example.invalid/ViT-B-16.pt'))  # the true address wants the true checksum
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, 'ViT-B-16-quickgelu', tags)
    (tmp_path / 'cache').mkdir()
    openai_archive(tmp_path / 'cache' / 'ViT-B-16.pt', mini_state)
    clip = ['--model-name', 'ViT-B-16-quickgelu', '--pretrained', 'openai']
    same_maps(*clip, options=[f'model.clip.cache_dir={tmp_path / "cache"}'])
