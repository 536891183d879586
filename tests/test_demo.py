"""The tiny CLIP's training, and that the shipped weights keep the paper's order."""

import importlib.util

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

SPEC = importlib.util.spec_from_file_location('train_demo_clip', PACKAGE.parent / 'tools' / 'train_demo_clip.py')
training = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(training)


@pytest.mark.slow
def test_training_is_reproducible_and_goes_on_where_it_was_interrupted(tmp_path, capsys):
    def stop_after_two(line):
        if 'step 2' in line:
            raise KeyboardInterrupt

    def run(name, log=lambda line: None, steps=3, seed=5):
        out = tmp_path / f'{name}.safetensors'
        training.train(out=out, log=log, steps=steps, seed=seed, batch_size=2, resume_every=2)
        return load_file(out)

    flags = ['--steps', '3', '--batch-size', '2', '--seed', '5', '--threads', '1', '--out']
    assert training.main([*flags, str(tmp_path / 'whole.safetensors')]) == 0
    assert 'step 2 of 3: loss' in capsys.readouterr().out
    with pytest.raises(KeyboardInterrupt):
        run('broken', stop_after_two)
    with pytest.raises(ConfigError, match='belongs to a run with'):
        run('broken', steps=4)
    assert not (tmp_path / 'broken.safetensors').exists()
    whole, broken, other = load_file(tmp_path / 'whole.safetensors'), run('broken'), run('other', seed=6)
    assert all(torch.equal(whole[key], broken[key]) for key in whole)
    assert not torch.equal(whole['visual.proj'], other['visual.proj'])
    assert {path.stem for path in tmp_path.iterdir()} == {'whole', 'broken', 'other'}
    assert {tensor.dtype for tensor in whole.values()} == {torch.float16} and is_ours(tmp_path / 'whole.safetensors')
    assert WEIGHTS.stat().st_size < 16 * 2**20
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


@pytest.mark.slow
def test_the_shipped_clip_keeps_the_papers_order():
    """CLIP below MaskCLIP below SCLIP, on scenes of a seed of this test's own."""
    scenes = [scene('evaluation', 4242, i, 128, 5) for i in range(200)]
    truth = torch.stack([torch.from_numpy(painted.label).long() for painted in scenes])
    pixels = [torch.from_numpy(painted.image[..., ::-1].copy()).permute(2, 0, 1) for painted in scenes]
    scores = {}
    for name in ('clip_demo', 'maskclip_demo', 'sclip_demo'):
        model = MODELS.build(Config.fromfile(config_path(name)).model).eval()
        with torch.no_grad():
            results = model.test_step(dict(inputs=pixels))
        labels = torch.stack([result.pred_sem_seg.data[0] for result in results])
        ious = [((labels == c) & (truth == c)).sum() / ((labels == c) | (truth == c)).sum() for c in range(12)]
        scores[name] = 100 * torch.stack(ious).mean().item()
    clip, maskclip, sclip = scores.values()
    assert clip < maskclip < sclip and clip + 6 < sclip
