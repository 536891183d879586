"""MaskCLIP's refinements by hand, and its keys through the decoder."""

import pytest
import torch
from torch.nn import functional as F

from mmseg_sclip.errors import ConfigError
from mmseg_sclip.models import Tokens
from mmseg_sclip.models.clip import ClipSource
from mmseg_sclip.models.methods.maskclip import denoise_prompts, smooth_by_keys
from mmseg_sclip.models.text import load_templates


def test_a_query_that_is_nowhere_sure_is_ruled_out():
    # Two patches, three queries. Query 2 is at best as likely as another: probability 0.5.
    cosines = torch.tensor([[0.5, 0.1], [0.1, 0.4], [0.1, 0.4]]).view(1, 3, 1, 2)
    refined = denoise_prompts(cosines, 0.6)[0, :, 0]
    assert torch.equal(refined[0], cosines[0, 0, 0])
    assert refined[1:].tolist() == [[-100, -100], [-100, -100]]
    assert torch.equal(denoise_prompts(cosines, 0.4), cosines)
    even = torch.full((1, 2, 1, 1), 0.25)  # the probability is exactly the threshold, and not below it
    assert torch.equal(denoise_prompts(even, 0.5), even)


def test_unsure_patches_take_what_patches_of_like_keys_say():
    cosines = torch.tensor([[0.4, 0.2], [0.2, 0.2]]).view(1, 2, 1, 2)  # the second patch is undecided
    refined = smooth_by_keys(cosines, torch.tensor([[[1.0, 0.6], [0.6, 1.0]]]), 0.9)[0, :, 0]
    sure = (100 * cosines[0, :, 0]).softmax(0)
    torch.testing.assert_close(refined[:, 0], sure[:, 0])
    torch.testing.assert_close(refined[:, 1], 0.6 * sure[:, 0] + sure[:, 1])
    at_half = smooth_by_keys(torch.zeros(1, 2, 1, 2), torch.ones(1, 2, 2), 0.5)
    assert torch.equal(at_half, torch.full((1, 2, 1, 2), 0.5))  # exactly the threshold, and not below it


@torch.no_grad()
def test_keys_are_those_of_the_last_block_after_its_output_projection(build_method, deep_clip, wide):
    model = build_method('maskclip_official', {'decode_head.ks_thresh': 0.9})
    record = model.backbone.record(wide)
    block = ClipSource(**deep_clip).visual.transformer.resblocks[11]
    key = block.ln_1(record[11]) @ block.attn.in_proj_weight[128:256].T + block.attn.in_proj_bias[128:256]
    keys = F.normalize(block.attn.out_proj(key)[:, 1:], dim=-1)
    affinity = keys @ keys.transpose(1, 2)
    torch.testing.assert_close(record.once(model.decode_head.affinity), affinity, atol=1e-5, rtol=0)
    with torch.autocast('cpu', torch.bfloat16):
        assert model.decode_head.affinity(record).dtype == torch.float32
    plain = build_method('maskclip_official')._forward(wide)
    torch.testing.assert_close(model._forward(wide), smooth_by_keys(plain, affinity, 0.9), atol=1e-5, rtol=0)
    both = build_method('maskclip_official', {'decode_head.pd_thresh': 0.99, 'decode_head.ks_thresh': 0.9})
    expected = smooth_by_keys(denoise_prompts(plain, 0.99), affinity, 0.9)
    torch.testing.assert_close(both._forward(wide), expected, atol=1e-5, rtol=0)
    with pytest.raises(ConfigError, match='which these features do not have'):
        model.decode_head(Tokens(torch.randn(1, 4, 64), None, (2, 2)))


def test_its_85_templates():
    templates = load_templates('maskclip')
    assert len(set(templates)) == 85
    assert templates[:80] == load_templates('openai_imagenet')
    assert all(template.endswith('{} in the scene.') for template in templates[80:])
