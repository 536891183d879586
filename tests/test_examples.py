"""The examples: they run on the demo, and their parts give what was computed in another way."""

import importlib
import sys
from pathlib import Path

import mmengine
import numpy as np
import pytest
import torch
from helpers import build
from mmseg.registry import MODELS
from PIL import Image
from torch.nn import functional as F

EXAMPLES = Path(__file__).resolve().parents[1] / 'examples'


@pytest.mark.slow
@pytest.mark.parametrize('path', sorted(EXAMPLES.rglob('sclip_demo_*.py')), ids=lambda path: path.stem)
def test_the_configs_of_the_examples_run(run_main, tmp_path, path):
    few = ['--cfg-options', 'test_dataloader.dataset.count=3', 'test_dataloader.num_workers=0']
    result = run_main(path, '--device', 'cpu', *few)
    assert result.code == 0, result.err
    assert mmengine.load(tmp_path / 'work' / 'result.json')['images'] == 3


@pytest.mark.slow
def test_the_own_dataset_runs(run_main, mini_clip, recipe, tmp_path):
    data = tmp_path / 'my kitchen'
    for number, name in enumerate(('cup.JPG', 'shelf/plate.png')):
        labels = np.random.RandomState(number).choice([0, 1, 2, 3, 255], (60, 80)).astype(np.uint8)
        image, label = data / 'images' / name, (data / 'labels' / name).with_suffix('.png')
        for path, pixels in ((image, recipe.image(number, 60, 80)), (label, labels)):
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
    flags = ['--device', 'cpu', '--model-name', mini_clip['model_name'], '--pretrained', mini_clip['pretrained']]
    result = run_main(EXAMPLES / 'own_dataset' / 'sclip_kitchen.py', '--data-root', data, '--out', 'out', *flags)
    assert result.code == 0, result.err
    classes = mmengine.load(tmp_path / 'work' / 'result.json')['classes']
    assert [entry['name'] for entry in classes] == ['background', 'cup', 'plate', 'spoon']
    assert {path.name for path in (tmp_path / 'out').iterdir()} == {'cup.png', 'plate.png'}


@pytest.fixture(scope='module', autouse=True)
def examples():
    """The example modules, imported as a config imports them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, 'path', [str(path) for path in EXAMPLES.iterdir()] + sys.path)
        for path in EXAMPLES.rglob('*.py'):
            if not path.stem.startswith('sclip_'):
                importlib.import_module(path.stem)


def last_block(attention='CorrelativeSelfAttention', ffn=True, **arguments):
    return dict(type='LastBlock', attention=dict(type=attention, **arguments), ffn=ffn)


ATTENTIONS = {'MyCosineAttention': 1, 'MyEarlierAttention': 1, 'MyNeighbourAttention': 1, 'MyTwoPassAttention': 2}


@pytest.mark.parametrize('name', ATTENTIONS)
@torch.no_grad()
def test_attentions_of_the_examples_attend_by_their_weights(mini_clip, name):
    model, seen = build(mini_clip, dict(type=name)), []
    attention = model.backbone.decoder.attention
    attend = attention.attend

    def watched(b):
        torch.testing.assert_close(attend(b), attention.weights(b) @ b.v)
        seen.append(b.feedback is not None)
        return attend(b)

    attention.attend = watched
    assert model._forward(torch.randn(2, 3, 48, 64)).shape == (2, 4, 3, 4)
    assert seen == [False, True][: ATTENTIONS[name]]


@torch.no_grad()
def test_the_decoders_of_the_examples_agree_with_the_last_block(mini_clip):
    """After the last block nothing is left to exit from, and one second stream is the block without its second half."""
    v = dict(type='CorrelativeSelfAttention', projections='v')
    for example, decoder in (
        (dict(type='MyEarlyExit', block=-1), last_block('VanillaSelfAttention')),
        (dict(type='MyTwoStreams', attention=v, blocks=1), last_block(projections='v', ffn=False)),
    ):
        models = [build(mini_clip, decoder=part) for part in (example, decoder)]
        ours, theirs = (model.encode(torch.ones(1, 3, 48, 64)) for model in models)
        torch.testing.assert_close(ours.patches, theirs.patches, atol=1e-5, rtol=1e-5)
    for decoder, needs in ((dict(type='MyEarlyExit', block=-2), {2}), (dict(example, blocks=2), {1, 2})):
        assert build(mini_clip, decoder=decoder).backbone.decoder.needs == needs


@torch.no_grad()
def test_the_head_and_the_refinement_of_the_examples(mini_clip):
    images = torch.randn(1, 3, 64, 64)
    cosines, centred = (build(mini_clip, head=head)._forward(images) for head in (None, dict(type='MyCentredHead')))
    torch.testing.assert_close(centred, cosines - cosines.mean(1, keepdim=True))
    scores = torch.rand(2, 5, 6)
    padded = F.pad(scores, [1] * 4)
    naive = sum(padded[:, dy : dy + 5, dx : dx + 6] for dy in range(3) for dx in range(3)) / 9
    smooth = MODELS.build(dict(type='MySmoothing', radius=1))(scores, images)
    torch.testing.assert_close(smooth[:, 1:-1, 1:-1], naive[:, 1:-1, 1:-1])
