"""Pictures of attention show, for every method, the map that the method itself computes with."""

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS

from mmseg_sclip.paths import config_path
from mmseg_sclip.visual.attention import attention_maps
from mmseg_sclip.visual.bound_attention import OWN, bind_attention

METHODS = (
    *('clip', 'maskclip', 'sclip', 'clearclip', 'naclip', 'gem', 'clip_surgery', 'resclip', 'resclip_clearclip'),
    *('resclip_sclip', 'sc_clip', 'pearl', 'sfp', 'cliptrase', 'freecp_sclip', 'cliper'),
)


@pytest.fixture(params=METHODS)
def model(request):
    init_default_scope('mmseg')
    return MODELS.build(Config.fromfile(config_path(f'{request.param}_demo')).model).eval()


@pytest.fixture
def image():
    return torch.randn(3, 64, 80, generator=torch.Generator().manual_seed(2))


@pytest.fixture
def used(model, monkeypatch):
    """The block inputs that the method's attention is given, one after the other.

    All that a method takes from an attention comes through one of these functions.
    """
    inputs = []
    for name in ('attend', 'attend_patches', 'rounds'):
        function = getattr(model.backbone.decoder.attention, name, None)
        if function is not None:
            monkeypatch.setattr(model.backbone.decoder.attention, name, spy(function, inputs))
    return inputs


def spy(function, inputs):
    def spied(b, *args):
        inputs.append(b)
        return function(b, *args)

    return spied


@torch.no_grad()
def test_the_map_is_that_of_the_method(model, used, image):
    model.encode(image[None])
    attention = model.backbone.decoder.attention
    # Of several blocks the last one comes last. The sum of blocks that SC-CLIP looks at comes last, too.
    b = used[0 if hasattr(attention, 'attend_patches') else -1]
    expected = attention.weights(b).mean(dim=1)[0, 1 + 3 * 10 + 5, 1:].view(8, 10)  # of the patch in row 3, column 5
    maps = attention_maps(model, image, [(44, 28)], [bind_attention(model, OWN)], mode='whole')
    torch.testing.assert_close(maps.rows[0].weights[0], expected)


@pytest.mark.parametrize('model', ['gem', 'clip_surgery'], indirect=True)
@torch.no_grad()
def test_each_block_of_a_parallel_path(model, used, image):
    model.encode(image[None])
    inputs = list(used)
    maps = attention_maps(model, image, [(0, 0)], [bind_attention(model, OWN)], [3, 4, 5], mode='whole')
    for row, b in zip(maps.rows, inputs, strict=True):
        weights = model.backbone.decoder.attention.weights(b)
        torch.testing.assert_close(row.weights[0], weights.mean(dim=1)[0, 1, 1:].view(8, 10))
