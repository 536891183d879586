"""ResCLIP on three bases: the official outputs, the formulas written out, and each part switched off."""

import numpy as np
import pytest
import torch

from mmseg_sclip.models import Feedback
from mmseg_sclip.models.methods.resclip.label_grids import same_label

SIZES = [(224, 224), (160, 224), (336, 448)]
BASES = dict(naclip='resclip', clearclip='resclip_clearclip', sclip='resclip_sclip')
ATTENTION = 'backbone.decoder.attention'
ALONE = dict(type='SemanticFeedback', base=dict(type='NeighbourAttention'))
# threshold; gain and share of the first part; gain and share of the second one
SETS = {'ade': (0.25, 2.0, 0.3, 2.1, 0.7), 'voc20': (0.10, 2.0, 0.6, 2.1, 0.6), 'ade_thd0.9': (0.9, 2.0, 0.3, 2.1, 0.7)}


def settings(name):
    threshold, gain, share, feedback_gain, feedback_share = SETS[name]
    return {
        f'{ATTENTION}.gain': gain,
        f'{ATTENTION}.share': share,
        f'{ATTENTION}.base.gain': feedback_gain,
        f'{ATTENTION}.base.share': feedback_share,
        f'{ATTENTION}.base.threshold': threshold,
    }


def second_pass(model, images):
    """The tokens of the first pass, and the block input of the second one."""
    memory = model.backbone.record(images)
    first = model.backbone.decode(memory)
    feedback = Feedback(model.decode_head(first))
    return first, model.backbone.tower.block_input(model.backbone.tower.depth, memory, feedback)


@pytest.mark.parametrize(
    'base, name', [*((base, name) for base in BASES for name in ('ade', 'voc20')), ('naclip', 'ade_thd0.9')]
)
def test_official_outputs(build_method, family, pixels, thinned, device, monkeypatch, base, name):
    model = build_method(BASES[base], settings(name)).to(device)
    feedback, seen = model.backbone.decoder.attention.base, []
    label_grid = feedback.label_grid
    monkeypatch.setattr(feedback, 'label_grid', lambda b: seen.append(label_grid(b)) or seen[-1])
    for size in SIZES:
        images = pixels(*size)[None].to(device)
        key, place = f'resclip/{base}/{name}', f'{size[0]}x{size[1]}'
        with torch.no_grad():
            tokens = model.encode(images).patches[0]
            assert seen[-1][0].tolist() == family[f'{key}/labels/{place}'].tolist()
            np.testing.assert_allclose(thinned(tokens, size), family[f'{key}/rcs_sfr/{place}'], atol=1e-4)
            first, b = second_pass(model, images)
            if f'{key}/rcs/{place}' in family:
                np.testing.assert_allclose(thinned(first.patches[0], size), family[f'{key}/rcs/{place}'], atol=5e-5)
            if f'{key}/sfr_rows/{place}' in family:
                theirs = family[f'{key}/sfr_rows/{place}']  # of the class token and every 28th patch
                assert not theirs[0].any() and not theirs[:, 0].any()
                np.testing.assert_allclose(feedback.matrix(b)[0, 27::28].cpu(), theirs[1:, 1:], atol=1e-7)


@pytest.fixture
def wide(pixels):
    return torch.stack([pixels(96, 160), pixels(96, 160, offset=1)])


def softmax(logits):
    exp = np.exp(logits - logits.max(-1, keepdims=True))
    return exp / exp.sum(-1, keepdims=True)


@pytest.mark.parametrize('base', BASES)
def test_the_formula_on_a_wide_window(build_method, wide, base):
    model = build_method(BASES[base], {**settings('voc20'), f'{ATTENTION}.blocks': (3, -2)})
    attention = model.backbone.decoder.attention
    assert model.backbone.decoder.needs == {2, 10, 11}
    with torch.no_grad():
        _, b = second_pass(model, wide)
        weights, attended = attention.weights(b), attention.attend(b)
        similarity = attention.base.similarity(b)
        sources = [b.earlier(3), b.earlier(11)]
        labels = attention.base.label_grid(b)
    torch.testing.assert_close(attended, weights @ b.v, atol=1e-5, rtol=1e-5)
    assert labels.shape == (2, 6, 10)
    places = np.stack(np.divmod(np.arange(60), 10), 1)
    prior = np.zeros((61, 61))
    prior[1:, 1:] = np.exp(-((places[:, None] - places) ** 2).sum(-1) / 50)
    streams = dict(naclip=[b.k], clearclip=[b.q], sclip=[b.q, b.k])[base]
    for image in range(2):
        assert similarity[image, 1:, 1:].max() == 1
        assert not similarity[image, 0].any() and not similarity[image, :, 0].any()
        # Rounded to float16 twice; in between a product in float32.
        bonus = similarity[image].numpy().astype(np.float16).astype(np.float32) * np.float32(0.6)
        bonus = bonus.astype(np.float16).astype(np.float64)
        residual = sum(
            softmax((source.q[image] @ source.k[image].transpose(1, 2)).double().numpy() / 8) for source in sources
        )
        total = 0.0
        for stream in streams:
            logits = (stream[image] @ stream[image].transpose(1, 2)).double().numpy() / 8
            mixed = 2.1 * (0.4 * logits + bonus)
            total = total + softmax(mixed + (prior if base == 'naclip' else 0))
        expected = 2.0 * (0.4 * total + 0.6 * residual / 2)
        np.testing.assert_allclose(weights[image], expected, atol=1e-5)
    # The rows sum to gain ((1 - share) sums of the base + share).
    torch.testing.assert_close(weights.sum(-1), torch.full((2, 2, 61), 2 * (0.4 * len(streams) + 0.6)))


def test_images_of_a_batch_do_not_influence_each_other(build_method, wide):
    model = build_method('resclip')
    with torch.no_grad():
        together = model.encode(wide).patches
        alone = torch.cat([model.encode(image[None]).patches for image in wide])
    torch.testing.assert_close(together, alone, atol=2e-5, rtol=0)
    assert (alone[0] - alone[1]).abs().max() > 0.1


def test_the_first_part_alone(build_method, wide):
    base = dict(_delete_=True, type='NeighbourAttention')
    model = build_method('resclip', {f'{ATTENTION}.base': base})
    assert model.backbone.passes == 1
    with torch.no_grad():
        first, _ = second_pass(build_method('resclip'), wide)
        torch.testing.assert_close(model.encode(wide).patches, first.patches)


def test_the_second_part_alone(build_method, wide):
    model = build_method('resclip', {ATTENTION: dict(_delete_=True, **ALONE)})
    assert model.backbone.passes == 2 and model.backbone.decoder.needs == {11}
    with torch.no_grad():
        first, b = second_pass(model, wide)
        torch.testing.assert_close(first.patches, build_method('naclip').encode(wide).patches)
        attention = model.backbone.decoder.attention
        torch.testing.assert_close(attention.attend(b), attention.weights(b) @ b.v)
        assert (model.encode(wide).patches - first.patches).abs().max() > 0.01


def test_without_refinement_decay_and_blur_pairs_of_a_label_count_the_same(build_method, wide):
    options = {f'{ATTENTION}.base.{key}': value for key, value in dict(steps=0, decay=False, blur=None).items()}
    model = build_method('resclip', options)
    with torch.no_grad():
        _, b = second_pass(model, wide)
        feedback = model.backbone.decoder.attention.base
        same = same_label(feedback.label_grid(b), decay=False)
        torch.testing.assert_close(feedback.matrix(b), same / same.sum(-1, keepdim=True))


def test_labels_follow_scale_and_threshold(build_method, wide):
    labels = {}
    for scale, threshold in [(40, 0.1), (40, 0.9), (0.01, 0.15)]:
        options = {f'{ATTENTION}.base.logit_scale': scale, f'{ATTENTION}.base.threshold': threshold}
        model = build_method('resclip', options)
        with torch.no_grad():
            labels[scale, threshold] = model.backbone.decoder.attention.base.label_grid(second_pass(model, wide)[1])
    assert labels[40, 0.1].any()
    assert (labels[40, 0.9] == 0).sum() > (labels[40, 0.1] == 0).sum()
    assert not labels[0.01, 0.15].any()  # the probabilities of seven queries are all 1 / 7


def test_low_precision(build_method, wide, deep_clip):
    with torch.no_grad():
        exact = build_method('resclip').encode(wide).patches
        rough = build_method('resclip', clip={**deep_clip, 'precision': 'bf16'}).encode(wide).patches
    assert rough.dtype == torch.bfloat16
    assert torch.cosine_similarity(rough.float(), exact, dim=-1).min() > 0.98
