"""The tiny CLIP's training, and that the shipped weights keep the paper's order."""

import importlib.util
import sys

import open_clip
import pytest
import torch
from mmengine.config import Config
from mmseg.registry import MODELS
from safetensors.torch import load_file

from mmseg_sclip.datasets.scenes import scene
from mmseg_sclip.demo import WEIGHTS
from mmseg_sclip.errors import ConfigError, UsageError
from mmseg_sclip.files import is_ours
from mmseg_sclip.paths import PACKAGE, config_path

sys.path.insert(0, str(PACKAGE.parent / 'tools'))  # as for a script that lies there
SPEC = importlib.util.spec_from_file_location('train_demo_clip', PACKAGE.parent / 'tools' / 'train_demo_clip.py')
training = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(training)
sys.path.pop(0)


@pytest.mark.slow
def test_training_is_reproducible_and_goes_on_where_it_was_interrupted(tmp_path, capsys, monkeypatch):
    def stop_after_two(line):
        if 'step 2 of' in line:
            raise KeyboardInterrupt

    monkeypatch.setattr(training, '_LOG_EVERY', 1)
    lines = []

    def run(name, log=lines.append, steps=3, seed=5):
        out = tmp_path / f'{name}.safetensors'
        training.train(out=out, log=log, steps=steps, seed=seed, batch_size=2, resume_every=1)
        return load_file(out)

    flags = ['--steps', '3', '--batch-size', '2', '--seed', '5', '--threads', '1', '--out']
    assert training.main([*flags, str(tmp_path / 'whole.safetensors')]) == 0
    assert 'step 3 of 3: mean loss' in capsys.readouterr().out
    with pytest.raises(KeyboardInterrupt):
        run('broken', stop_after_two)
    with pytest.raises(ConfigError, match='belongs to a run with'):
        run('broken', steps=4)
    assert not (tmp_path / 'broken.safetensors').exists()
    whole, broken, other = load_file(tmp_path / 'whole.safetensors'), run('broken'), run('other', seed=6)
    assert all(torch.equal(whole[key], broken[key]) for key in whole)
    assert lines[0].startswith('goes on after step 1 of 3, from ')
    assert not torch.equal(whole['visual.proj'], other['visual.proj'])
    assert {path.stem for path in tmp_path.iterdir()} == {'whole', 'broken', 'other'}
    assert {tensor.dtype for tensor in whole.values()} == {torch.float16} and is_ours(tmp_path / 'whole.safetensors')
    assert WEIGHTS.stat().st_size <= 9e6
    assert {key: tensor.shape for key, tensor in load_file(WEIGHTS).items()} == {k: t.shape for k, t in whole.items()}


def test_pairs_that_name_the_same_set_are_positives():
    images = texts = torch.eye(4)
    named = torch.tensor([1, 2, 1, 4])
    loss = training.contrastive_loss(images, texts, named, torch.tensor(2.0))
    row = torch.tensor([2.0, 0, 0, 0]).log_softmax(0)  # the logits of every row, its own first
    expected = (2 * -(row[0] + row[1]) / 2 + 2 * -row[0]) / 4
    torch.testing.assert_close(loss, expected)


def test_wrong_numbers_are_refused():
    for flag in ('--steps', '--batch-size', '--threads'):
        with pytest.raises(UsageError, match=f'{flag} is 0'):
            training.main([flag, '0'])


@pytest.fixture
def learning():
    """A CLIP that learns, and pixels that fill its grid."""
    torch.manual_seed(0)
    sizes = dict(image_size=48, layers=3, width=64, head_width=32, patch_size=8)
    words = dict(context_length=32, vocab_size=100, width=32, heads=2, layers=1)
    model = open_clip.CLIP(embed_dim=32, quick_gelu=False, vision_cfg=sizes, text_cfg=words)
    training.prepare(model, seed=1)
    return model, torch.randn(4, 3, 48, 48)


def encode(model, pixels, seed=0, **recipe):
    none = dict(patches=0.0, attention=0.0, skip=0.0, itself=0.0, tokens=0.0, enlarged=0.0)
    return training.encode_image(model, pixels, training.Recipe(**none | recipe), torch.Generator().manual_seed(seed))


def test_without_the_recipe_it_is_clip(learning):
    model, pixels = learning
    torch.testing.assert_close(encode(model, pixels), model.encode_image(pixels), rtol=1e-4, atol=1e-5)


def test_enlarged_positions(learning):
    """Those of any window of the table at twice the size."""
    model, pixels = learning
    found = encode(model, pixels, enlarged=1.0)
    table = model.visual.positional_embedding.data
    grid = table[1:].T.unflatten(1, (6, 6))
    large = torch.nn.functional.interpolate(grid[None], size=(12, 12), mode='bicubic')[0]

    def at(top, left):
        table[1:] = large[:, top : top + 6, left : left + 6].flatten(1).T
        return (model.encode_image(pixels) - found).abs().max()

    with torch.no_grad():
        assert sum(at(top, left) < 1e-4 for top in range(7) for left in range(7)) == 1


def test_positions_begin_smooth_and_queries_and_keys_wide(learning):
    grid = learning[0].visual.positional_embedding[1:].view(6, 6, 64).detach()
    far = (grid[0] - grid[5]).square().mean()
    assert grid.std() == pytest.approx(0.3, rel=0.02) and (grid[0] - grid[1]).square().mean() < far / 4
    for block in learning[0].visual.transformer.resblocks:
        queries, keys, values = block.attn.in_proj_weight.detach().chunk(3)
        torch.testing.assert_close(queries.std() / values.std(), torch.tensor(2.0), rtol=0.05, atol=0)
        torch.testing.assert_close(keys.std() / values.std(), torch.tensor(2.0), rtol=0.05, atol=0)


def test_what_is_left_out(learning):
    """The class token of the last block, from open_clip's own parts."""
    model, pixels = learning
    tower = model.visual
    x = tower.conv1(pixels).flatten(2).mT + tower.positional_embedding[1:]
    first = (tower.class_embedding + tower.positional_embedding[0]).expand(4, 1, 64)
    x = tower.ln_pre(torch.cat([first, x], 1))
    *earlier, last = tower.transformer.resblocks
    without = x  # of attention
    for block in earlier:
        x = block(x)
        without = without + block.mlp(block.ln_2(without))
    y = last.ln_1(x)

    def project(tokens):
        return tower.ln_post(tokens) @ tower.proj

    patches = last.attn(y[:, :1], y[:, 1:], y[:, 1:])[0][:, 0]
    close = dict(rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(encode(model, pixels, skip=1.0, itself=1.0), project(patches), **close)
    torch.testing.assert_close(encode(model, pixels, attention=1.0), project(last(without)[:, 0]), **close)
    kept = x[:, 0] + patches
    kept = kept + last.mlp(last.ln_2(kept))
    # Tokens are hidden only where the skip connection is left out.
    torch.testing.assert_close(encode(model, pixels, itself=1.0, tokens=0.9), project(kept), **close)
    hidden = [encode(model, pixels, seed, skip=1.0, itself=1.0, tokens=0.9) for seed in range(2)]
    assert (hidden[0] - hidden[1]).abs().max() > 1e-3 and (hidden[0] - project(patches)).abs().max() > 1e-3
    fewer = [encode(model, pixels, seed, patches=0.5) for seed in range(2)]
    assert (fewer[0] - fewer[1]).abs().max() > 1e-3 and torch.equal(fewer[0], encode(model, pixels, patches=0.5))


@pytest.mark.slow
def test_the_shipped_clip_shows_what_the_paper_shows():
    """CLIP far below MaskCLIP far below SCLIP, which misses no class, on scenes of a seed of this test's own."""
    scenes = [scene('evaluation', 4242, i, 192, 6) for i in range(60)]
    truth = torch.stack([torch.from_numpy(painted.label).long() for painted in scenes])
    pixels = [torch.from_numpy(painted.image[..., ::-1].copy()).permute(2, 0, 1) for painted in scenes]
    scores = {}
    for name in ('clip_demo', 'maskclip_demo', 'sclip_demo'):
        model = MODELS.build(Config.fromfile(config_path(name)).model).eval()
        with torch.no_grad():
            results = model.test_step(dict(inputs=pixels))
        labels = torch.stack([result.pred_sem_seg.data[0] for result in results])
        scores[name] = [
            100 * (((labels == c) & (truth == c)).sum() / ((labels == c) | (truth == c)).sum()).item()
            for c in range(12)
        ]
    clip, maskclip, sclip = (sum(ious) / 12 for ious in scores.values())
    assert clip + 8 < maskclip < sclip - 4 and min(scores['sclip_demo']) > 45
