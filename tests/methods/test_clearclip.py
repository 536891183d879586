"""ClearCLIP against the official outputs, and its several last blocks against a second implementation."""

import numpy as np
import pytest
import torch

from mmseg_sclip.models.clip import ClipSource

SIZES = [(224, 224), (160, 224), (336, 448)]
ATTENTIONS = {
    'ClearCLIP': {},
    'vanilla': dict(_delete_=True, type='VanillaSelfAttention'),
    'MaskCLIP': dict(_delete_=True, type='IdentityAttention'),
    'SCLIP': dict(projections=('q', 'k')),
}


@pytest.mark.parametrize('kept', [True, False])
@pytest.mark.parametrize('name', ATTENTIONS)
def test_tokens(build_method, family, pixels, thinned, device, name, kept):
    options = {'backbone.decoder.attention': ATTENTIONS[name]}
    if kept:
        options |= {'backbone.decoder.residual': True, 'backbone.decoder.ffn': True}
    model = build_method('clearclip', options).to(device)
    for size in SIZES:
        with torch.no_grad():
            tokens = model.encode(pixels(*size)[None].to(device)).patches[0]
        theirs = family[f'clearclip/{name}/{"res" if kept else "nores"}/{size[0]}x{size[1]}']
        np.testing.assert_allclose(thinned(tokens, size), theirs, atol=5e-5)


@pytest.mark.parametrize('size', SIZES, ids=str)
def test_tokens_of_the_identity_attention_with_positions_of_a_target_size(
    build_method, family, pixels, thinned, device, size
):
    options = {'backbone.decoder.attention': ATTENTIONS['MaskCLIP'], 'backbone.positions': 'size'}
    with torch.no_grad():
        tokens = build_method('sclip', options).to(device).encode(pixels(*size)[None].to(device)).patches[0]
    theirs = family[f'tcl/maskclip/{size[0]}x{size[1]}']
    np.testing.assert_allclose(thinned(tokens, size), theirs, atol=5e-5)


@pytest.mark.parametrize('blocks', [1, 3])
def test_several_last_blocks_add_their_attention_to_the_untouched_stream(build_method, deep_clip, pixels, blocks):
    options = {
        'backbone.decoder': dict(
            _delete_=True,
            type='ParallelPath',
            blocks=blocks,
            residual=False,
            attention=dict(type='CorrelativeSelfAttention', projections='q'),
        )
    }
    model, image = build_method('clearclip', options), pixels(96, 160)[None]
    visual = ClipSource(**deep_clip).visual
    with torch.no_grad():
        ours = model.encode(image)
        x, path = model.backbone.tower.embed(image)[0], 0
        for i, block in enumerate(visual.transformer.resblocks):
            if i >= 12 - blocks:
                q, _, v = (block.ln_1(x) @ block.attn.in_proj_weight.T + block.attn.in_proj_bias).chunk(3, dim=-1)
                heads = []
                for part in (slice(0, 64), slice(64, 128)):
                    logits = q[..., part] @ q[..., part].transpose(1, 2) / 8
                    heads.append(logits.softmax(dim=-1) @ v[..., part])
                path = path + block.attn.out_proj(torch.cat(heads, dim=-1))
            x = block(x)
        expected = (visual.ln_post(path) @ visual.proj)[0]
    torch.testing.assert_close(ours.patches[0], expected[1:], atol=5e-5, rtol=0)
    torch.testing.assert_close(ours.cls[0], expected[0], atol=5e-5, rtol=0)
    if blocks == 1:
        with torch.no_grad():
            one = build_method('clearclip').encode(image)
        torch.testing.assert_close(ours.patches, one.patches)
