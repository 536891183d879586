"""GEM: tokens against the official outputs; its attention and its rule for the background written out."""

import numpy as np
import pytest
import torch
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample

from mmseg_sclip.errors import ConfigError
from mmseg_sclip.models import BlockInput
from mmseg_sclip.models.image.postprocess import min_max


@pytest.mark.parametrize('iterations', [1, 2])
def test_tokens(build_method, family, pixels, thinned, device, iterations):
    model = build_method('gem', {'backbone.decoder.attention.iterations': iterations}).to(device)
    for size in [(224, 224), (160, 224), (336, 448)]:
        with torch.no_grad():
            tokens = model.encode(pixels(*size)[None].to(device)).patches[0]
        theirs = family[f'gem/iter{iterations}/{size[0]}x{size[1]}']
        np.testing.assert_allclose(thinned(tokens, size), theirs, atol=5e-5)


def softmax(logits):
    return np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


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
def test_weights_and_values(iterations, factor):
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 2, 2, 7, 4, dtype=torch.float64)
    x = torch.randn(2, 7, 8, dtype=torch.float64) * torch.tensor([1.0, 4.0])[:, None, None]  # each image its own
    block = BlockInput(q, k, v, x, (2, 3), 1, 0.5)
    attention = MODELS.build(dict(type='SelfSelfAttention', iterations=iterations, inverse_temperature=factor))
    expected = np.array([[naive_map(block, i, h, iterations, factor) for h in (0, 1)] for i in (0, 1)])
    np.testing.assert_allclose(attention.weights(block), expected, atol=1e-6)
    np.testing.assert_allclose(attention.attend(block), expected @ v.numpy(), atol=1e-6)


def test_a_batch_equals_its_images_one_by_one(build_method, pixels):
    model = build_method('gem')
    images = torch.stack([pixels(96, 160), 3 * pixels(96, 160, 7)])
    with torch.no_grad():
        together = model.encode(images).patches
        alone = [model.encode(image[None]).patches[0] for image in images]
    torch.testing.assert_close(together, torch.stack(alone), atol=1e-5, rtol=0)


def test_maps_from_0_to_1():
    maps = torch.tensor([[[1.0, 3.0], [2.0, 1.5]], [[0.2, 0.2], [0.2, 0.2]]])
    torch.testing.assert_close(min_max(maps), torch.tensor([[[0, 1.0], [0.5, 0.25]], [[0, 0], [0, 0]]]))


RULE = dict(type='ForegroundOnly', min_max=True)


def segment(model, image, **settings):
    model.test_cfg.update(settings)
    with torch.no_grad():
        (sample,) = model.predict([image], [SegDataSample(metainfo=dict(ori_shape=(40, 60)))])
    return sample.pred_sem_seg.data[0].numpy()


@pytest.mark.parametrize('scaled', [True, False])
def test_the_rule_for_the_background(build_method, pixels, scaled):
    words = ['stone', ['sky', 'wall'], 'cat', ['dog', 'bird'], 'tree']  # class 1 is the background
    model, image = build_method('gem', vocabulary=words, background_index=1), pixels(96, 160)
    model.decode_head.text_bank = model.decode_head.text_bank[:7]
    settings = dict(mode='whole', logit_scale=3 if scaled else 60, refine=[{**RULE, 'min_max': scaled}])
    with torch.no_grad():
        cosines = torch.nn.functional.interpolate(
            model.decode_head(model.encode(image[None])), (40, 60), mode='bilinear', align_corners=False
        )[0].numpy()
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


def test_nothing_may_follow_the_rule(build_method):
    """What follows would compute with minus infinity, and propagation makes NaN of all scores then."""
    model = build_method('gem', {'test_cfg.mode': 'whole'})
    model.test_cfg.update(refine=[dict(type='TextLabelPropagation'), RULE])
    for follower in ('TextLabelPropagation', 'PAMR', 'ForegroundOnly'):
        with pytest.raises(ConfigError, match='ForegroundOnly must be the last entry .* works on cosines'):
            model.test_cfg.update(refine=[RULE, dict(type=follower)])


def test_a_phrase_of_the_background_and_of_a_class(build_method):
    options = {'test_cfg.refine': [RULE]}
    with pytest.raises(ValueError, match=r"\['bed'\] of them name another class"):
        build_method('gem', options, vocabulary=[['sky', 'bed'], 'bed', 'cat'], background_index=0)
