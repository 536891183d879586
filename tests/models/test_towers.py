"""Towers that are not open_clip's, through every command and beside an implementation of their own."""

import json
from pathlib import Path

import pytest
import tiny_source
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS
from safetensors.torch import load_file
from torch.nn import functional as F

from mmseg_sclip.apis import SCLIPInferencer
from mmseg_sclip.cli import main
from mmseg_sclip.config import load_config
from mmseg_sclip.engine.fingerprint import digest, fingerprint
from mmseg_sclip.engine.journal import Journal
from mmseg_sclip.errors import ConfigError
from mmseg_sclip.paths import config_path

CPU = torch.device('cpu')


@pytest.fixture
def own(tmp_path, fresh_engine, fresh_cache, monkeypatch):
    """`own(base, seed)` is a config with the tiny towers of a seed, on three painted scenes."""
    monkeypatch.chdir(tmp_path)
    # MMEngine lays out the config for its log four times a run, which takes longer than the run.
    monkeypatch.setattr(Config, 'pretty_text', 'the config')

    def write(base='sclip_demo', seed=0):
        file = tiny_source.write_weights(tmp_path / f'{seed}.safetensors', seed)
        path = tmp_path / f'tiny{seed}_{Path(base).name}.py'
        path.write_text(
            f'_base_ = [{str(config_path(base))!r}]\n'
            "custom_imports = dict(imports=['mmseg_sclip', 'tiny_source'])\n"
            f"model = dict(clip=dict(_delete_=True, type='TinySource', file={str(file)!r}))\n"
            'test_dataloader = dict(num_workers=0, dataset=dict(count=3))\n'
        )
        return path

    return write


def run(command, *argv):
    assert main.main([command, *map(str, argv), '--device', 'cpu']) == 0


def result(folder):
    return json.loads((folder / 'result.json').read_text())


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
        ids = [[tiny_source.zlib.crc32(word.encode()) % tiny_source.WORDS for word in words] for words in prompts]
        rows.append(sum(F.normalize(state['words.weight'][row].mean(0), dim=0) for row in ids))
    bank = F.normalize(torch.stack(rows), dim=-1)
    expected = (F.normalize(tokens[:, 1:], dim=-1) @ bank.T).transpose(1, 2).unflatten(2, (4, 4))
    torch.testing.assert_close(model.decode_head.distinct(model._forward(images)), expected, atol=1e-5, rtol=0)
    assert model.data_preprocessor.mean.flatten().tolist() == [120, 110, 100]
    assert model.backbone.tower.mean == (120, 110, 100)


def test_a_test_can_be_resumed_and_other_weights_are_another_result(own, tmp_path, monkeypatch):
    path, add = own(), Journal.add
    run('test', path, '--work-dir', tmp_path / 'whole')
    whole = result(tmp_path / 'whole')
    assert whole['weights']['name'] == 'tiny-vit' and len(whole['weights']['sha256']) == 64 and whole['images'] == 3

    def stop(journal, *counts):
        add(journal, *counts)
        raise KeyboardInterrupt

    monkeypatch.setattr(Journal, 'add', stop)
    assert main.main(['test', str(path), '--work-dir', str(tmp_path / 'part'), '--device', 'cpu']) != 0
    counted = []
    monkeypatch.setattr(Journal, 'add', lambda journal, *counts: counted.append(counts) or add(journal, *counts))
    run('test', path, '--work-dir', tmp_path / 'part', '--resume')
    assert len(counted) == 2 and result(tmp_path / 'part')['classes'] == whole['classes']
    before = fingerprint(load_config(str(path)), CPU)
    assert digest(before) == whole['fingerprint']
    tiny_source.write_weights(tmp_path / '0.safetensors', 1)
    assert fingerprint(load_config(str(path)), CPU)['weights']['sha256'] != before['weights']['sha256']


def test_several_attentions_share_the_towers(own, tmp_path, monkeypatch):
    built, build = [], tiny_source.TinySource.build_image_tower
    monkeypatch.setattr(tiny_source.TinySource, 'build_image_tower', lambda *args: built.append(args) or build(*args))
    paths = [own(), own('clip/clip_demo')]
    run('compare-methods', 'demo', '--methods', *paths, '--out', tmp_path / 'all', '--max-images', 2)
    rows = json.loads((tmp_path / 'all' / 'methods.json').read_text())['methods']
    assert len(built) == 1 and {row['pass'] for row in rows} == {1}
    for path, row in zip(paths, rows, strict=True):
        run('test', path, '--work-dir', tmp_path / path.stem, '--max-images', 2)
        together = json.loads((tmp_path / 'all' / row['result']).read_text())
        assert together['classes'] == result(tmp_path / path.stem)['classes']


def test_phrases_are_kept_for_these_words_templates_and_weights(own, tmp_path, monkeypatch):
    heads = [model_of(own()).decode_head, model_of(own()).decode_head, model_of(own(seed=1)).decode_head]
    asked, embed = [], tiny_source.TinyWords.embed
    monkeypatch.setattr(tiny_source.TinyWords, 'embed', lambda *args: asked.append(args[2]) or embed(*args))
    first, again, other = (head.encode_vocabulary(CPU) for head in heads)
    assert torch.equal(first, again) and not torch.allclose(first, other)
    assert len(asked) == 2 and heads[0].text_encoder.network is None
    heads[1].templates = ('{}!',)
    heads[1].set_vocabulary(list(heads[0].vocabulary.classes))
    assert not torch.allclose(heads[1].encode_vocabulary(CPU), first) and len(asked) == 3
    assert len(list((tmp_path / 'fresh_cache' / 'text_banks').glob('*.safetensors'))) == 3


def test_own_pictures_and_words_that_change_without_the_weights(own, tmp_path):
    path = own()
    pixels = torch.randint(0, 256, (80, 96, 3), dtype=torch.uint8).numpy()
    segment = SCLIPInferencer(['cat', 'dog'], None, config=path, device='cpu', channel_order='rgb')
    fresh = SCLIPInferencer(['owl', 'emu'], None, config=path, device='cpu', channel_order='rgb')
    expected = fresh(pixels)['labels']
    for file in [tmp_path / '0.safetensors', *(tmp_path / 'fresh_cache' / 'text_banks').glob('*.safetensors')]:
        file.rename(file.with_suffix('.away'))
    (tmp_path / '0.away').rename(tmp_path / '0.safetensors')
    assert segment.model.decode_head.text_encoder.network is not None
    assert (segment(pixels, classes=['owl', 'emu'])['labels'] == expected).all()


def test_costs_are_counted_without_weights(own, tmp_path, capfd):
    path = own('clip/clip_demo')
    (tmp_path / '0.safetensors').unlink()
    assert main.main(['get-flops', str(path), '--json']) == 0
    cost = json.loads(capfd.readouterr().out)
    tokens, patches = 65, 64  # of a window of 64 x 64
    block = tokens * 32 * 32 * (3 + 1 + 8) + 2 * tokens**2 * 32
    expected = patches * 3 * 8 * 8 * 32 + 3 * block
    assert cost['model_name'] == 'tiny-vit' and cost['gmac_clip_per_window'] == pytest.approx(expected / 1e9)


def test_flags_that_name_a_model_of_open_clip_are_refused(own, capfd):
    for flags in (['--pretrained', 'openai'], ['--model-name', 'ViT-B-16']):
        assert main.main(['test', str(own()), *flags]) != 0
        assert 'name a model of open_clip, but model.clip is a TinySource, which has' in capfd.readouterr().err
    with pytest.raises(ConfigError, match="Unknown key 'fil' in model.clip .TinySource.. Did you mean 'file'"):
        MODELS.build(dict(type='TextSimilarityHead', clip=dict(type='TinySource', fil='x'), vocabulary=['cat']))
