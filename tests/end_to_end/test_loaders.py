"""One CLIP from every place that weights come from: the label maps must be the same to the last pixel."""

import json

import cv2
import numpy as np
import open_clip
import pytest
from safetensors.torch import save_file

OPTIONS = ['--cfg-options', 'model.decode_head.templates=simple', 'test_dataloader.num_workers=0']
B16 = ('ViT-B-16-quickgelu', 'openai')  # a real name and its real tag, with the mini CLIP's size behind them
COMMIT = '0123456789abcdef0123456789abcdef01234567'
MEAN, STD = open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD
# Where the weights lie: --model-name, --pretrained, and what prepares the folder.
PLACES = {
    'a plain file': ('mini.json', 'weights.safetensors', 'file'),
    "OpenAI's archive": ('mini.json', 'weights.pt', 'archive'),
    'a folder': ('local-dir:cache', None, 'folder'),
    'the hub': ('hf-hub:someone/mini-clip', None, 'models--someone--mini-clip'),
    'a tag in the cache': (*B16, 'models--timm--vit_base_patch16_clip_224.openai'),
    "OpenAI's archive in the cache": (*B16, 'tag'),
}
FAST = ("OpenAI's archive",)


@pytest.fixture
def no_network(monkeypatch, mini_json):
    monkeypatch.setattr('huggingface_hub.constants.HF_HUB_OFFLINE', True)
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, B16[0], json.loads(mini_json.read_text()))


@pytest.fixture
def prepare(no_network, openai_archive, mini_state, mini_json, monkeypatch, tmp_path):
    """`prepare(kind)` makes the files of one of PLACES in the current folder."""

    def make(kind):
        cache = tmp_path / 'cache'
        cache.mkdir()
        (tmp_path / 'mini.json').write_text(mini_json.read_text())
        if kind == 'file':
            save_file(mini_state, tmp_path / 'weights.safetensors')
        elif kind == 'archive':
            openai_archive(tmp_path / 'weights.pt', mini_state)
        elif kind == 'tag':
            tag = open_clip.get_pretrained_cfg(*B16)  # the true address wants the true checksum
            tags = dict(openai=dict(tag, url='https://example.invalid/ViT-B-16.pt'))
            monkeypatch.setitem(open_clip.pretrained._PRETRAINED, B16[0], tags)
            openai_archive(cache / 'ViT-B-16.pt', mini_state)
        else:  # a folder of the hub, or the cache that the Hugging Face client would have left
            folder = cache if kind == 'folder' else cache / kind / 'snapshots' / COMMIT
            folder.mkdir(parents=True, exist_ok=True)
            if kind != 'folder':
                (cache / kind / 'refs').mkdir()
                (cache / kind / 'refs' / 'main').write_text(COMMIT)
            content = dict(model_cfg=json.loads(mini_json.read_text()), preprocess_cfg=dict(mean=MEAN, std=STD))
            (folder / 'open_clip_config.json').write_text(json.dumps(content))
            save_file(mini_state, folder / 'open_clip_model.safetensors')

    return make


def label_maps(folder):
    return [cv2.imread(str(folder / f'{number}.png'), cv2.IMREAD_UNCHANGED) for number in range(2)]


@pytest.mark.filterwarnings('ignore:.torch.jit:FutureWarning')
@pytest.mark.parametrize(
    'place', [pytest.param(place, marks=() if place in FAST else pytest.mark.slow) for place in PLACES]
)
def test_the_same_label_maps(run_main, prepare, small_voc, mini_json, mini_weights, tmp_path, place):
    name, pretrained, kind = PLACES[place]
    prepare(kind)
    for out, clip in dict(plain=(mini_json, mini_weights), other=(name, pretrained)).items():
        flags = ['--model-name', clip[0], *(['--pretrained', clip[1]] if clip[1] else []), '--data-root', small_voc]
        cache = f'model.clip.cache_dir={tmp_path / "cache"}'
        result = run_main('sclip_voc20', *flags, '--out', tmp_path / out, *OPTIONS, cache)
        assert result.code == 0, result.err
    words = f'weights.safetensors does not tell its activation; {name} runs it with QuickGELU'
    assert (words in result.out) == (kind == 'file')  # OpenAI's archives do
    for plain, other, shape in zip(
        *map(label_maps, (tmp_path / 'plain', tmp_path / 'other')), ((61, 83), (90, 47)), strict=True
    ):
        assert plain.shape == shape and len(np.unique(plain)) > 2  # or any weights would do
        np.testing.assert_array_equal(other, plain)


def test_tag_that_is_in_no_cache(no_network, small_voc, run_main, tmp_path):
    result = run_main('sclip_voc20', '--data-root', small_voc, *OPTIONS, f'model.clip.cache_dir={tmp_path / "cache"}')
    assert result.code == 1 and 'Traceback' not in result.err
    assert all(words in result.last for words in ('Error: ', "'openai'", 'cache', 'pretrained', 'HF_ENDPOINT'))
