"""Rows of attention maps against softmaxes written out on the raw weights."""

import numpy as np
import pytest
import torch
from helpers import softmax
from torch.nn import functional as F

from mmseg_sclip.models.attention import CorrelativeSelfAttention, IdentityAttention, VanillaSelfAttention
from mmseg_sclip.models.record import Feedback
from mmseg_sclip.visual.attention import attention_maps
from mmseg_sclip.visual.bound_attention import bind_attention

WIDTH, HEADS, PATCH = 128, 2, 16


@pytest.fixture
def image():
    return torch.randn(3, 120, 140, generator=torch.Generator().manual_seed(1))


def qk(model, crop, layer):
    """Queries and keys (heads, N, head_dim) in float64, from the tower's own forward and its raw weights."""
    blocks = model.backbone.tower.visual.transformer.resblocks
    seen = {}
    handle = blocks[layer - 1].register_forward_pre_hook(lambda _, inputs: seen.update(x=inputs[0]))
    with torch.no_grad():
        x, _ = model.backbone.tower.embed(crop[None])
        for block in blocks:
            x = block(x)
    handle.remove()
    block = blocks[layer - 1]
    x = seen['x'][0].double().numpy()
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    x = (x - mean) / np.sqrt(variance + block.ln_1.eps)
    x = x * block.ln_1.weight.double().numpy() + block.ln_1.bias.double().numpy()
    weight, bias = block.attn.in_proj_weight.double().numpy(), block.attn.in_proj_bias.double().numpy()
    q, k, _ = np.split(x @ weight.T + bias, 3, axis=-1)
    return [part.reshape(len(x), HEADS, -1).transpose(1, 0, 2) for part in (q, k)]


def by_hand(name, q, k):
    scale = (WIDTH // HEADS) ** -0.5
    if name == 'VanillaSelfAttention':
        return softmax(scale * q @ k.transpose(0, 2, 1))
    return softmax(scale * q @ q.transpose(0, 2, 1)) + softmax(scale * k @ k.transpose(0, 2, 1))


@pytest.mark.parametrize('name', ['VanillaSelfAttention', 'CorrelativeSelfAttention'])
@pytest.mark.parametrize('layer, mode', [(1, 'slide'), (3, 'whole')])
def test_the_row_of_the_point(model, image, name, layer, mode):
    point = (75, 40)
    window = dict(whole=(0, 120, 0, 140), slide=(0, 96, 44, 140))[mode]  # centres at x = 48, 92, 92 moved; y = 48, 72
    crop = image[:, window[0] : window[1], window[2] : window[3]]
    rows, columns = crop.shape[1] // PATCH, crop.shape[2] // PATCH
    token = (40 - window[0]) // PATCH * columns + (75 - window[2]) // PATCH
    expected = by_hand(name, *qk(model, crop, layer))[:, 1 + token, 1:].reshape(HEADS, rows, columns)

    attentions = [bind_attention(model, name)]
    maps = attention_maps(model, image, [point], attentions, [layer], 'all', mode)
    assert maps.views[0].window == window
    assert [(row.layer, row.heads) for row in maps.rows] == [(layer, 'head 1 of 2'), (layer, 'head 2 of 2')]
    for row, values in zip(maps.rows, expected, strict=True):
        assert np.allclose(row.weights[0], values, rtol=2e-3, atol=1e-12)
    (mean,) = attention_maps(model, image, [point], attentions, [layer - 4], 'mean', mode).rows
    assert mean.layer == layer and mean.heads == 'mean of 2 heads'
    assert np.allclose(mean.weights[0], expected.mean(0), rtol=2e-3, atol=1e-12)
    (second,) = attention_maps(model, image, [point], attentions, [layer], 2, mode).rows
    assert torch.equal(second.weights[0], maps.rows[1].weights[0])


def test_points_belong_to_the_image_before_resizing(model, image):
    """The network's input of 120 x 140 was made from 240 x 70."""
    attentions = [bind_attention(model, IdentityAttention())]
    maps = attention_maps(model, image, [(37, 80)], attentions, mode='whole', size=(240, 70))
    expected = torch.zeros(7, 8)
    expected[40 // PATCH, 75 // PATCH] = 1
    assert torch.equal(maps.rows[0].weights[0], expected)
    assert maps.rows[0].heads == 'one map for all heads'
    values = maps.views[0].enlarge(maps.rows[0].weights[0])
    assert values.shape == (240, 70)
    assert values[80, 37] > 0.5


def test_rows_and_points_in_the_given_order(model, image):
    names = ['CorrelativeSelfAttention', 'VanillaSelfAttention', 'LocalSelfAttention(window=1)']
    points = [(139, 119), (0, 0), (75, 40)]
    maps = attention_maps(model, image, points, [bind_attention(model, name) for name in names], [3, 1], 'all')
    assert [(row.attention, row.layer, row.heads[:6]) for row in maps.rows] == [
        (name, layer, head) for name in names for layer in (3, 1) for head in ('head 1', 'head 2')
    ]
    alone = attention_maps(model, image, [points[1]], [bind_attention(model, names[0])], [1], 2)
    assert torch.allclose(maps.rows[3].weights[1], alone.rows[0].weights[0], rtol=1e-4, atol=1e-12)
    for row in maps.rows[-4:]:  # a window of 1 is the unit matrix
        assert [int(weights.argmax()) for weights in row.weights] == [35, 0, 2 * 6 + 1]


def test_the_earlier_blocks_that_an_attention_reads(model, image):
    attentions = [bind_attention(model, name) for name in ('EarlierAttention(block=1)', 'VanillaSelfAttention')]
    maps = attention_maps(model, image, [(75, 40)], attentions, [3, 1])
    assert torch.equal(maps.rows[0].weights[0], maps.rows[3].weights[0])
    (alone,) = attention_maps(model, image, [(75, 40)], attentions[:1]).rows
    assert torch.equal(alone.weights[0], maps.rows[0].weights[0])


class SeveralPasses(CorrelativeSelfAttention):
    """After the first pass tokens attend where the same phrase has won."""

    passes = 2

    def terms(self, b):
        terms = super().terms(b)
        if b.feedback is None:
            return terms
        assert b.record.images.shape[-1] // PATCH == b.grid[1]
        best = b.feedback.scores.argmax(1).flatten(1)
        same = F.pad((best[:, :, None] == best[:, None]).float(), (1, 0, 1, 0))[:, None]
        return [term + 3 * same for term in terms]


@pytest.mark.parametrize('layer', [1, 3])
@torch.no_grad()
def test_several_passes(model, image, layer):
    """The feedback is that of the full run, whatever block is shown; the first pass is that of the model's own."""
    bound = bind_attention(model, SeveralPasses())
    (row,) = attention_maps(model, image, [(75, 40)], [bound], [layer], mode='whole').rows
    record = model.backbone.record(image[None], {layer - 1, 2})
    scores = model.decode_head(model.backbone.decoder.run(record, None)[0])
    shown, without = (
        bound.attention.weights(record.block_input(layer, feedback=feedback))[0].mean(0)[1 + 2 * 8 + 4, 1:]
        for feedback in (Feedback(scores), None)
    )
    assert torch.allclose(row.weights[0].flatten(), shown, rtol=2e-3, atol=1e-12)
    assert not torch.allclose(without, shown, rtol=0.5, atol=0)  # the feedback does something


@pytest.mark.parametrize(
    'wrong, message',
    [
        (dict(points=[(140, 5)]), r'140,5 lies outside .*x goes from 0 to 139 and y from 0 to 119'),
        (dict(points=[(3, -1)]), r'3,-1 lies outside'),
        (dict(layers=[4]), r'no block 4: .* 1 to 3'),
        (dict(layers=[0]), r'no layer 0: layers count from 1 to 3'),
        (dict(heads=3), r"heads is 3; it is 'mean', 'all' or a number from 1 to 2"),
        (dict(heads='max'), r"heads is 'max'"),
        (dict(mode='window'), r'mode is .window.*slide'),
    ],
)
def test_wrong_wishes(model, image, wrong, message):
    wishes = dict(points=[(5, 5)], attentions=[bind_attention(model, 'VanillaSelfAttention')]) | wrong
    with pytest.raises(ValueError, match=message):
        attention_maps(model, image, **wishes)


def test_weights_of_a_wrong_shape_are_named(model, image):
    flat = type('Flat', (VanillaSelfAttention,), dict(weights=lambda self, b: b.q[0] @ b.k[0].mT))
    with pytest.raises(ValueError, match=r'Flat.weights returned a tensor \(2, 37, 37\)'):
        attention_maps(model, image, [(5, 5)], [bind_attention(model, flat())])
