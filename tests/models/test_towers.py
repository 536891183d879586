"""Towers that are not open_clip's, through the commands and beside an implementation of their own."""

import json
import zlib
from pathlib import Path

import pytest
import tiny_source
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS
from safetensors.torch import load_file
from torch.nn import functional as F

from mmseg_sclip.cli import main
from mmseg_sclip.config import load_config
from mmseg_sclip.errors import ConfigError
from mmseg_sclip.paths import config_path


@pytest.fixture
def own(tmp_path, fresh_engine, fresh_cache, monkeypatch):
    """`own(base, seed)` is a config with the tiny towers of a seed, on two painted scenes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Config, 'pretty_text', 'the config')  # which takes longer to lay out than the run

    def write(base='sclip_demo', seed=0):
        file = tiny_source.write_weights(tmp_path / f'{seed}.safetensors', seed)
        path = tmp_path / f'tiny{seed}_{Path(base).name}.py'
        path.write_text(
            f'_base_ = [{str(config_path(base))!r}]\n'
            "custom_imports = dict(imports=['mmseg_sclip', 'tiny_source'])\n"
            f"model = dict(clip=dict(_delete_=True, type='TinySource', file={str(file)!r}))\n"
            'test_dataloader = dict(num_workers=0, dataset=dict(count=2))\n'
        )
        return path

    return write


def model_of(path):
    init_default_scope('mmseg')
    return MODELS.build(load_config(str(path)).model).eval()


@torch.no_grad()
def test_scores_are_those_of_timms_own_forward(own):
    """CLIP's attention changes nothing, so that the tokens are the network's own."""
    path = own('clip/clip_demo')
    model = model_of(path)
    vit, images = tiny_source.make_vit(), torch.randn(2, 3, 32, 32)
    state = load_file(path.parent / '0.safetensors')
    vit.load_state_dict({name[4:]: value for name, value in state.items() if name.startswith('vit.')})
    tokens = vit.head(vit.forward_features(images))
    torch.testing.assert_close(model.encode(images).patches, tokens[:, 1:])
    rows = []
    for phrase in model.decode_head.vocabulary.distinct:
        prompts = [template.format(phrase).split() for template in model.decode_head.templates]
        ids = [[zlib.crc32(word.encode()) % tiny_source.WORDS for word in words] for words in prompts]
        rows.append(sum(F.normalize(state['words.weight'][row].mean(0), dim=0) for row in ids))
    expected = F.normalize(tokens[:, 1:], dim=-1) @ F.normalize(torch.stack(rows), dim=-1).T
    scores = model.decode_head.distinct(model._forward(images))
    torch.testing.assert_close(scores, expected.transpose(1, 2).unflatten(2, (4, 4)), atol=1e-5, rtol=0)
    assert model.data_preprocessor.mean.flatten().tolist() == [120, 110, 100]


@pytest.mark.slow
def test_a_test_several_at_once_and_costs(own, tmp_path, monkeypatch, capfd):
    built, build = [], tiny_source.TinySource.build_image_tower
    monkeypatch.setattr(tiny_source.TinySource, 'build_image_tower', lambda *args: built.append(args) or build(*args))
    paths = list(map(str, [own('clip/clip_demo'), own()]))
    assert main.main(['compare-methods', 'demo', '--methods', *paths, '--out', 'all', '--device', 'cpu']) == 0
    assert len(built) == 1  # the attentions share the towers
    results = []
    for seed in (0, 1):
        tiny_source.write_weights(tmp_path / '0.safetensors', seed)
        assert main.main(['test', paths[0], '--work-dir', f'{seed}', '--device', 'cpu']) == 0
        results.append(json.loads((tmp_path / f'{seed}' / 'result.json').read_text()))
    rows = json.loads((tmp_path / 'all' / 'methods.json').read_text())['methods']
    together = json.loads((tmp_path / 'all' / rows[0]['result']).read_text())
    assert together['classes'] == results[0]['classes'] and results[0]['weights']['name'] == 'tiny-vit'
    assert results[0]['fingerprint'] != results[1]['fingerprint']
    (tmp_path / '0.safetensors').unlink()
    capfd.readouterr()
    assert main.main(['get-flops', paths[0], '--json']) == 0
    tokens, patches = 145, 144  # of a window of 96 x 96
    block = tokens * 32 * 32 * (3 + 1 + 8) + 2 * tokens**2 * 32
    cost = json.loads(capfd.readouterr().out)
    assert cost['gmac_clip_per_window'] == pytest.approx((patches * 3 * 8 * 8 * 32 + 3 * block) / 1e9)
    for flags in (['--pretrained', 'openai'], ['--model-name', 'ViT-B-16']):
        assert main.main(['test', paths[0], *flags]) != 0
        assert 'name a model of open_clip, but model.clip is a TinySource, which has' in capfd.readouterr().err
    with pytest.raises(ConfigError, match="Unknown key 'fil' in model.clip .TinySource.. Did you mean 'file'"):
        MODELS.build(dict(type='TextSimilarityHead', clip=dict(type='TinySource', fil='x'), vocabulary=['cat']))
