"""CLIP Surgery against the official outputs; feature surgery also against the tensor that it stands for."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from mmseg_sclip.models.methods.clip_surgery import feature_surgery, similarity_map

SIZES = [(224, 224), (336, 336)]


@pytest.mark.parametrize('size', SIZES, ids=str)
@torch.no_grad()
def test_tokens_scores_and_maps(build_method, family, pixels, thinned, device, size):
    model, name = build_method('clip_surgery').to(device), f'{size[0]}x{size[1]}'
    tokens = model.encode(pixels(*size)[None].to(device))
    scores = model.decode_head(tokens)
    np.testing.assert_allclose(thinned(tokens.patches[0], size), family[f'clip_surgery/tokens/{name}'], atol=5e-5)
    np.testing.assert_allclose(tokens.cls[0].cpu(), family[f'clip_surgery/cls/{name}'], atol=5e-5)
    theirs = family[f'clip_surgery/feature_surgery/{name}']
    np.testing.assert_allclose(thinned(scores[0].flatten(1).T, size), theirs, atol=5e-6)
    maps = similarity_map(scores, (32, 48))[0].permute(1, 2, 0).cpu()
    np.testing.assert_allclose(maps, family[f'clip_surgery/similarity_map/{name}'], atol=5e-6)

    single = build_method('clip_surgery', {'decode_head.redundant': ''}, list('abcdef'), text=family['text'][:6])
    single.decode_head.redundant_feature = torch.from_numpy(family['text'][6])
    theirs = family[f'clip_surgery/feature_surgery_single/{name}']
    scores = single.to(device).decode_head(tokens)
    np.testing.assert_allclose(thinned(scores[0].flatten(1).T, size), theirs, atol=5e-6)


def test_the_redundant_phrase_is_encoded_in_the_heads_templates(build_method):
    options = {'decode_head.redundant': 'dog', 'decode_head.templates': ['a photo of {}.', 'many {}']}
    head = build_method('clip_surgery', options).decode_head
    head.text_bank = None
    other = build_method('clip_surgery', {'decode_head.templates': ['{}']}).decode_head
    prompts = ['a photo of dog.', 'many dog']
    both = other.text_encoder.encode(prompts, other.templates, torch.device('cpu'))
    torch.testing.assert_close(head.encode_redundant(torch.device('cpu'))[0], F.normalize(both.mean(dim=0), dim=0))
    scores = head(torch.randn(1, 64, 2, 3))
    assert scores[:, 1].abs().max() < 1e-6 and scores[:, 0].abs().max() > 1e-3  # 'dog' less itself


def test_the_closed_form_is_the_tensor_of_all_patches_classes_and_channels():
    torch.manual_seed(0)
    patches, cls = F.normalize(torch.randn(2, 6, 8), dim=-1), F.normalize(torch.randn(2, 8), dim=-1)
    text = F.normalize(torch.randn(5, 8), dim=-1)
    ours = feature_surgery((patches @ text.T).transpose(1, 2).unflatten(2, (2, 3)), cls @ text.T, 2.0)
    for image in range(2):
        weights = (2 * text @ cls[image]).softmax(dim=0)
        weights = weights / weights.mean()
        products = patches[image][:, None] * text[None] * weights[None, :, None]  # (n, C, D)
        expected = (products - products.mean(dim=1, keepdim=True)).sum(dim=-1)
        torch.testing.assert_close(ours[image].flatten(1).T, expected)


def test_equal_phrases_have_equal_scores(build_method, family, pixels):
    model = build_method('clip_surgery', vocabulary=['bed', 'cat', ['sky', 'bed']], text=family['text'][:3])
    with torch.no_grad():
        scores = model._forward(pixels(96, 160)[None])
    assert torch.equal(scores[:, 0], scores[:, 3])
    np.testing.assert_allclose(scores.mean(dim=1), 0, atol=1e-6)
