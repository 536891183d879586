"""SCLIP's ablations of the last block's attention, and the mean of an attention over blocks, written out."""

import numpy as np
import pytest
import torch
from helpers import softmax
from mmseg.registry import MODELS

from mmseg_sclip.models.clip import ClipSource

ATTENTION = 'backbone.decoder.attention'


@pytest.mark.parametrize('window', [1, 3, 5])
def test_a_patch_sees_the_window_around_it(block, window):
    expected = np.zeros((2, 2, 7, 7))
    expected[..., 0, 0] = 1  # the class token sees itself
    places = [(row, column) for row in range(2) for column in range(3)]
    for image in range(2):
        for head in range(2):
            q, k = block.q[image, head].numpy(), block.k[image, head].numpy()
            for i, (row, column) in enumerate(places, 1):
                near = [j for j, (r, c) in enumerate(places, 1) if max(abs(r - row), abs(c - column)) <= window // 2]
                expected[image, head, i, near] = softmax(q[i] @ k[near].T / 2)
    attention = MODELS.build(dict(type='LocalSelfAttention', window=window))
    np.testing.assert_allclose(attention.weights(block), expected, atol=1e-12)
    np.testing.assert_allclose(attention.attend(block), expected @ block.v.numpy(), atol=1e-12)


def test_sharpening(block):
    attention = MODELS.build(dict(type='SharpenedSelfAttention', temperature=3))
    expected = softmax(3 * (block.q @ block.k.transpose(-1, -2)).numpy() / 2)
    np.testing.assert_allclose(attention.weights(block), expected, atol=1e-12)


@pytest.mark.parametrize('block', [3, -10])
@torch.no_grad()
def test_the_map_of_an_earlier_block(build_method, deep_clip, wide, block):
    model = build_method('sclip', {ATTENTION: dict(_delete_=True, type='EarlierAttention', block=block)})
    assert model.backbone.decoder.needs == {2, 11}
    b = model.backbone.record(wide).block_input(12)
    x = model.backbone.tower.embed(wide)[0]
    blocks = ClipSource(**deep_clip).visual.transformer.resblocks  # open_clip's own
    for each in blocks[:2]:
        x = each(x)
    x = blocks[2].ln_1(x)
    _, expected = blocks[2].attn(x, x, x, need_weights=True, average_attn_weights=False)
    torch.testing.assert_close(model.backbone.decoder.attention.weights(b), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize('blocks', [None, (3, -1)])
@torch.no_grad()
def test_keys_averaged_over_blocks(build_method, deep_clip, wide, blocks):
    model = build_method('sclip', {ATTENTION: dict(_delete_=True, type='BlockMeanAttention', blocks=blocks)})
    b = model.backbone.record(wide).block_input(12)
    attention, x, maps = model.backbone.decoder.attention, model.backbone.tower.embed(wide)[0], []
    for block in ClipSource(**deep_clip).visual.transformer.resblocks:
        k = block.ln_1(x) @ block.attn.in_proj_weight[128:256].T + block.attn.in_proj_bias[128:256]
        maps.append(torch.stack([(h @ h.transpose(1, 2) / 8).softmax(dim=-1) for h in k.split(64, dim=-1)], dim=1))
        x = block(x)
    expected = torch.stack(maps if blocks is None else [maps[2], maps[11]]).mean(dim=0)
    torch.testing.assert_close(attention.weights(b), expected, atol=1e-5, rtol=0)
    even = attention.weights(b, mix=torch.zeros_like)  # which acts on the terms of each block
    torch.testing.assert_close(even, torch.full_like(even, 1 / 61))
