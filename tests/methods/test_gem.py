"""GEM: tokens against the official outputs; its attention and its rule for the background written out."""

import numpy as np
import pytest
import torch
from helpers import sample, softmax, unit
from mmseg.registry import MODELS
from torch.nn import functional as F

from mmseg_sclip.errors import ConfigError
from mmseg_sclip.models.image.postprocess import min_max
from mmseg_sclip.models.methods.gem.attention import _set_length

RULE = dict(type='ForegroundOnly', min_max=True)


@pytest.mark.parametrize('iterations', [1, 2])
def test_tokens(build_method, family, check_tokens, device, iterations):
    model = build_method('gem', {'backbone.decoder.attention.iterations': iterations}).to(device)
    check_tokens(model, family, f'gem/iter{iterations}')


def naive_map(block, image, head, iterations, factor):
    """One image and one head of GEM's map."""
    if factor is None:
        factor = 0.5 * np.mean([np.linalg.norm(token) for token in block.x[image].numpy()])
    maps = []
    for name in 'vkq':
        u = getattr(block, name)[image, head].numpy()
        for _ in range(iterations):
            u = softmax(factor * unit(u) @ unit(u).T) @ unit(u)
        maps.append(softmax(factor * unit(u) @ unit(u).T))
    return np.mean(maps, axis=0)


@pytest.mark.parametrize('iterations', [0, 1, 3])
@pytest.mark.parametrize('factor', [None, 7.0])
def test_weights_and_values(block, iterations, factor):
    attention = MODELS.build(dict(type='SelfSelfAttention', iterations=iterations, inverse_temperature=factor))
    expected = np.array([[naive_map(block, i, h, iterations, factor) for h in (0, 1)] for i in (0, 1)])
    np.testing.assert_allclose(attention.weights(block), expected, atol=1e-6)
    np.testing.assert_allclose(attention.attend(block), expected @ block.v.numpy(), atol=1e-6)


def test_lengths_are_exact_in_bfloat16_and_of_zero_vectors():
    x = torch.randn(1, 2, 50, 64, generator=torch.Generator().manual_seed(0)).bfloat16()
    x[0, 0, 0] = 0
    ours = _set_length(x, 3.0)
    factor = 3.0 / x.double().norm(dim=-1, keepdim=True).clamp(min=1e-12)
    assert torch.equal(ours, x * factor.bfloat16()) and not ours[0, 0, 0].any()


def test_maps_from_0_to_1():
    maps = torch.tensor([[[1.0, 3.0], [2.0, 1.5]], [[0.2, 0.2], [0.2, 0.2]]])
    torch.testing.assert_close(min_max(maps), torch.tensor([[[0, 1.0], [0.5, 0.25]], [[0, 0], [0, 0]]]))


def segment(model, image, **settings):
    model.test_cfg.update(settings)
    with torch.no_grad():
        (result,) = model.predict([image], [sample((40, 60))])
    return result.pred_sem_seg.data[0].numpy()


@pytest.mark.parametrize('scaled', [True, False])
def test_the_rule_for_the_background(build_method, pixels, scaled):
    words = ['stone', ['sky', 'wall'], 'cat', ['dog', 'bird'], 'tree']  # class 1 is the background
    model, image = build_method('gem', vocabulary=words, background_index=1), pixels(96, 160)
    model.decode_head.text_bank = model.decode_head.text_bank[:7]
    settings = dict(mode='whole', logit_scale=3 if scaled else 60, refine=[{**RULE, 'min_max': scaled}])
    with torch.no_grad():
        cosines = model.decode_head(model.encode(image[None]))
    cosines = F.interpolate(cosines, (40, 60), mode='bilinear', align_corners=False)[0].numpy()
    owners = [0, 2, 3, 3, 4]
    maps = np.stack([cosines[query] for query in (0, 3, 4, 5, 6)])
    if scaled:
        maps = np.stack([(each - each.min()) / (each.max() - each.min()) for each in maps])
    probabilities = softmax((settings['logit_scale'] * maps).transpose(1, 2, 0))
    threshold = float(np.median(probabilities.max(-1)))
    clear = np.abs(probabilities.max(-1) - threshold) > 1e-5
    for prob_thd in (None, threshold):
        expected = np.array(owners)[probabilities.argmax(-1)]
        expected[probabilities.max(-1) < (prob_thd or 0)] = 1
        ours = segment(model, image, **settings, prob_thd=prob_thd)
        assert (ours == expected)[clear].all()
        assert ((ours == 1).mean() > 0.4) == (prob_thd is not None)


def test_the_rule_follows_the_words(build_method, pixels):
    model = build_method('gem', {'test_cfg.refine': [RULE], 'test_cfg.mode': 'whole'}, background_index=None)
    bank = model.decode_head.text_bank
    assert 0 in segment(model, pixels(96, 160), logit_scale=3)  # there is no background
    other = model.with_vocabulary(['sky', *'abcdef'], background_index=0)
    other.decode_head.text_bank = bank
    assert 0 not in segment(other, pixels(96, 160))
    model.set_vocabulary(['sky', *'abcdef'], background_index=0)
    model.decode_head.text_bank = bank
    assert 0 not in segment(model, pixels(96, 160))


def test_what_the_rule_does_not_work_with(build_method):
    """What follows would compute with minus infinity, and propagation makes NaN of all scores then."""
    build_method('gem', {'test_cfg.refine': [dict(type='TextLabelPropagation'), RULE]})
    for follower in ('TextLabelPropagation', 'PAMR', 'ForegroundOnly'):
        with pytest.raises(ConfigError, match='ForegroundOnly must be the last entry .* works on cosines'):
            build_method('gem', {'test_cfg.mode': 'whole', 'test_cfg.refine': [RULE, dict(type=follower)]})
    with pytest.raises(ConfigError, match=r"\['bed'\] of them name another class"):
        build_method('gem', {'test_cfg.refine': [RULE]}, [['sky', 'bed'], 'bed', 'cat'], background_index=0)
    with pytest.raises(ConfigError, match='compares cosines, but EarlyLayerFusionHead gives class scores'):
        build_method('cliper', {'test_cfg.refine': [RULE]})
