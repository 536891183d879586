"""The mean of an attention over blocks."""

import pytest
import torch

from mmseg_sclip.models.clip import ClipSource

ATTENTION = 'backbone.decoder.attention'


@pytest.mark.parametrize('blocks', [None, (3, -1)])
def test_keys_averaged_over_blocks(build_method, deep_clip, pixels, blocks):
    model = build_method('clearclip', {ATTENTION: dict(_delete_=True, type='BlockMeanAttention', blocks=blocks)})
    image = pixels(96, 160)[None]
    memory = model.backbone.record(image)
    b = model.backbone.tower.block_input(12, memory)
    attention = model.backbone.decoder.attention
    with torch.no_grad():
        x, maps = memory[0] if 0 in memory else model.backbone.tower.embed(image)[0], []
        for block in ClipSource(**deep_clip).visual.transformer.resblocks:
            k = block.ln_1(x) @ block.attn.in_proj_weight[128:256].T + block.attn.in_proj_bias[128:256]
            maps.append(torch.stack([(h @ h.transpose(1, 2) / 8).softmax(dim=-1) for h in k.split(64, dim=-1)], dim=1))
            x = block(x)
        expected = torch.stack(maps if blocks is None else [maps[2], maps[11]]).mean(dim=0)
        torch.testing.assert_close(attention.weights(b), expected, atol=1e-5, rtol=0)
        torch.testing.assert_close(attention.attend(b), expected @ b.v, atol=1e-5, rtol=0)
        assert model.encode(image).patches.shape == (1, 60, 64)
