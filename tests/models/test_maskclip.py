"""MaskCLIP's refinements by hand, and its keys through the decoder."""

import pytest
import torch
from mmseg.registry import MODELS

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
    keys = torch.tensor([[[3.0, 0.0], [3.0, 4.0]]])  # cosine 0.6 between the two
    refined = smooth_by_keys(cosines, keys, 0.9)[0, :, 0]
    sure = (100 * cosines[0, :, 0]).softmax(0)
    torch.testing.assert_close(refined[:, 0], sure[:, 0])
    torch.testing.assert_close(refined[:, 1], 0.6 * sure[:, 0] + sure[:, 1])


def build(clip, keys=True, **head):
    return MODELS.build(
        dict(
            type='SCLIPSegmentor',
            clip=clip,
            backbone=dict(
                type='CLIPVisionTransformer',
                decoder=dict(type='LastBlock', attention=dict(type='IdentityAttention'), keys=keys),
            ),
            decode_head=dict(type='MaskCLIPHead', vocabulary=['cat', 'dog'], templates='simple', **head),
            test_cfg=dict(mode='whole'),
        )
    ).eval()


def test_keys_are_those_of_the_last_block_behind_its_output_projection(mini_clip):
    model = build(mini_clip)
    images = torch.randn(1, 3, 32, 48)
    with torch.no_grad():
        tokens = model.encode(images)
        tower = model.backbone.tower
        block = tower.block(3)
        x = block.ln_1(model.backbone.record(images)[2])
        key = torch.nn.functional.linear(x, block.attn.in_proj_weight[128:256], block.attn.in_proj_bias[128:256])
        torch.testing.assert_close(tokens.keys, block.attn.out_proj(key)[:, 1:])
        smoothed = build(mini_clip, ks_thresh=1.0)._forward(images)
        torch.testing.assert_close(smoothed, smooth_by_keys(model._forward(images), tokens.keys, 1.0))
        both = build(mini_clip, pd_thresh=0.99, ks_thresh=1.0)._forward(images)
        denoised = denoise_prompts(model._forward(images), 0.99)
        torch.testing.assert_close(both, smooth_by_keys(denoised, tokens.keys, 1.0))


def test_without_thresholds_it_is_text_similarity(mini_clip):
    images = torch.randn(1, 3, 32, 48)
    plain = build(mini_clip, keys=False)
    assert plain.encode(images).keys is None
    config = dict(type='TextSimilarityHead', vocabulary=['cat', 'dog'], templates='simple', clip=mini_clip)
    with torch.no_grad():
        torch.testing.assert_close(plain._forward(images), MODELS.build(config)(plain.encode(images)))


def test_missing_keys_are_explained(mini_clip):
    with pytest.raises(ValueError, match='keys=True'):
        build(mini_clip, keys=False, ks_thresh=1.0)._forward(torch.randn(1, 3, 32, 32))


def test_its_85_templates():
    templates = load_templates('maskclip')
    assert len(set(templates)) == 85
    assert templates[:80] == load_templates('openai_imagenet')
    assert all(template.endswith('{} in the scene.') for template in templates[80:])
