"""ClearCLIP against the official outputs, and its several last blocks against a second implementation."""

import pytest
import torch

from mmseg_sclip.models.clip import ClipSource

ATTENTIONS = {
    'ClearCLIP': {},
    'vanilla': dict(_delete_=True, type='VanillaSelfAttention'),
    'MaskCLIP': dict(_delete_=True, type='IdentityAttention'),
    'SCLIP': dict(projections=('q', 'k')),
}
DECODER = 'backbone.decoder'


@pytest.mark.parametrize('name', ATTENTIONS)
def test_tokens(build_method, family, check_tokens, device, name):
    for key, kept in (('res', True), ('nores', False)):
        options = {f'{DECODER}.attention': ATTENTIONS[name], f'{DECODER}.residual': kept, f'{DECODER}.ffn': kept}
        check_tokens(build_method('clearclip', options).to(device), family, f'clearclip/{name}/{key}')


def test_tokens_of_the_identity_attention_with_positions_of_a_target_size(build_method, family, check_tokens, device):
    options = {f'{DECODER}.attention': ATTENTIONS['MaskCLIP'], 'backbone.positions': 'size'}
    check_tokens(build_method('sclip', options).to(device), family, 'tcl/maskclip')


@pytest.mark.parametrize('blocks', [1, 3])
@torch.no_grad()
def test_several_last_blocks_add_their_attention_to_the_untouched_stream(build_method, deep_clip, wide, blocks):
    attention = dict(type='CorrelativeSelfAttention', projections='q')
    decoder = dict(_delete_=True, type='ParallelPath', blocks=blocks, residual=False, attention=attention)
    model = build_method('clearclip', {DECODER: decoder})
    visual, ours = ClipSource(**deep_clip).visual, model.encode(wide)
    x, path = model.backbone.tower.embed(wide)[0], 0
    for i, block in enumerate(visual.transformer.resblocks):
        if i >= 12 - blocks:
            q, _, v = (block.ln_1(x) @ block.attn.in_proj_weight.T + block.attn.in_proj_bias).chunk(3, dim=-1)
            heads = []
            for part in (slice(0, 64), slice(64, 128)):
                logits = q[..., part] @ q[..., part].transpose(1, 2) / 8
                heads.append(logits.softmax(dim=-1) @ v[..., part])
            path = path + block.attn.out_proj(torch.cat(heads, dim=-1))
        x = block(x)
    expected = visual.ln_post(path) @ visual.proj
    torch.testing.assert_close(ours.patches, expected[:, 1:], atol=5e-5, rtol=0)
    torch.testing.assert_close(ours.cls, expected[:, 0], atol=5e-5, rtol=0)
