"""One CLIP in every form in which weights come: the label maps must be the same to the last pixel."""

import json

import cv2
import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import save_file

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


def prefixed(state):
    return {f'module.{name}': value for name, value in state.items()}


def custom_text(state):
    """open_clip's other naming, for towers that are separate modules."""
    return {
        name if name.startswith('visual.') or name == 'logit_scale' else f'text.{name}': value
        for name, value in state.items()
    }


FILES = {
    'openai_names.pt': lambda path, state: torch.save(state, path),
    'state_dict_entry.pt': lambda path, state: torch.save(dict(epoch=32, state_dict=state), path),
    'module_prefix.pt': lambda path, state: torch.save(dict(epoch=32, state_dict=prefixed(state)), path),
    'old_pickle.pt': lambda path, state: torch.save(state, path, _use_new_zipfile_serialization=False),
    'half.pt': lambda path, state: torch.save({name: value.half() for name, value in state.items()}, path),
    'weights.bin': lambda path, state: torch.save(state, path),
    'weights.safetensors': lambda path, state: save_file(state, path),
}


def label_maps(folder):
    maps = [cv2.imread(str(folder / f'{number}.png'), cv2.IMREAD_UNCHANGED) for number in range(2)]
    assert [labels.shape for labels in maps] == [(61, 83), (90, 47)]
    return maps


def assert_same(folder, expected):
    for labels, wanted in zip(label_maps(folder), expected, strict=True):
        np.testing.assert_array_equal(labels, wanted)


@pytest.fixture(scope='module')
def expected(mini_json, mini_weights, small_voc, run_tool, tmp_path_factory):
    """The label maps that a plain state dict gives, in a process of its own."""
    folder = tmp_path_factory.mktemp('expected')
    clip = ['--model-name', mini_json, '--pretrained', mini_weights]
    result = run_tool('sclip_voc20', *clip, '--data-root', small_voc, '--out', folder / 'out', *OPTIONS, cwd=folder)
    assert result.returncode == 0, result.stderr[-3000:]
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
        assert_same(out, expected)
        return result

    return run


@pytest.mark.parametrize('name', FILES)
def test_file(name, mini_state, mini_json, same_maps, tmp_path):
    FILES[name](tmp_path / name, mini_state)
    result = same_maps('--model-name', mini_json, '--pretrained', tmp_path / name)
    assert f'{name} does not tell its activation; {mini_json} runs it with QuickGELU' in result.out


def test_openai_archive(openai_archive, mini_state, mini_json, same_maps, tmp_path):
    openai_archive(tmp_path / 'ViT-mini.pt', mini_state)
    result = same_maps('--model-name', mini_json, '--pretrained', tmp_path / 'ViT-mini.pt')
    assert 'does not tell its activation' not in result.out  # OpenAI's archives do


@pytest.mark.parametrize('names', ['openai', 'open_clip'])
def test_towers_apart(names, mini_state, mini_json, same_maps, tmp_path):
    (tmp_path / 'apart.json').write_text(json.dumps(dict(json.loads(mini_json.read_text()), custom_text=True)))
    save_file(mini_state if names == 'openai' else custom_text(mini_state), tmp_path / 'apart.safetensors')
    same_maps('--model-name', tmp_path / 'apart.json', '--pretrained', tmp_path / 'apart.safetensors')


def test_local_folder(mini_state, mini_json, same_maps, tmp_path):
    hub_folder(tmp_path / 'my clip', mini_state, json.loads(mini_json.read_text()))
    same_maps('--model-name', f'local-dir:{tmp_path / "my clip"}')


def test_hub_without_a_network(mini_state, mini_json, small_voc, expected, run_tool, tmp_path):
    hub_cache(tmp_path / 'home' / 'hub', 'someone/mini-clip', mini_state, json.loads(mini_json.read_text()))
    result = run_tool(
        'sclip_voc20',
        *('--model-name', 'hf-hub:someone/mini-clip', '--data-root', small_voc, '--out', tmp_path / 'out', *OPTIONS),
        cwd=tmp_path,
        env=dict(HF_HOME=str(tmp_path / 'home'), HF_HUB_OFFLINE='1'),
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert_same(tmp_path / 'out', expected)


@pytest.fixture
def mini_named_b16(mini_json, monkeypatch):
    """A real name and its real tag, with the mini CLIP's size behind them; no network."""
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, 'ViT-B-16-quickgelu', json.loads(mini_json.read_text()))
    monkeypatch.setattr('huggingface_hub.constants.HF_HUB_OFFLINE', True)


def test_tag_from_a_prepared_cache(mini_state, mini_json, mini_named_b16, same_maps, tmp_path):
    hub_cache(
        tmp_path / 'cache', 'timm/vit_base_patch16_clip_224.openai', mini_state, json.loads(mini_json.read_text())
    )
    clip = ['--model-name', 'ViT-B-16-quickgelu', '--pretrained', 'openai']
    same_maps(*clip, options=[f'model.clip.cache_dir={tmp_path / "cache"}'])


def test_archive_named_by_a_tag(openai_archive, mini_state, mini_named_b16, same_maps, monkeypatch, tmp_path):
    openai_archive(tmp_path / 'ViT-B-16.pt', mini_state)
    monkeypatch.setattr(open_clip, 'download_pretrained', lambda tag, cache_dir=None: str(tmp_path / 'ViT-B-16.pt'))
    same_maps('--model-name', 'ViT-B-16-quickgelu', '--pretrained', 'openai')


def test_tag_that_is_in_no_cache(mini_named_b16, small_voc, run_main, tmp_path):
    result = run_main('sclip_voc20', '--data-root', small_voc, *OPTIONS, f'model.clip.cache_dir={tmp_path / "cache"}')
    assert result.code == 1 and 'Traceback' not in result.err
    for words in ('Error: ', "'openai'", 'ViT-B-16-quickgelu', 'in no cache', '--pretrained FILE', 'HF_ENDPOINT'):
        assert words in result.last


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
