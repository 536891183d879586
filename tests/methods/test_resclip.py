"""ResCLIP on three bases: the official outputs, the formulas written out, and each part switched off."""

import numpy as np
import pytest
import torch
from helpers import softmax

from mmseg_sclip.errors import ConfigError
from mmseg_sclip.models import Feedback
from mmseg_sclip.models.methods.resclip.label_grids import patch_labels, refined_labels, same_label

SIZES = [(224, 224), (160, 224), (336, 448)]
BASES = dict(naclip='resclip', clearclip='resclip_clearclip', sclip='resclip_sclip')
ATTENTION = 'backbone.decoder.attention'
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
    record = model.backbone.record(images)
    first = model.backbone.decoder(record)
    return first, record.block_input(-1, feedback=Feedback(model.decode_head(first)))


@pytest.mark.parametrize(
    'base, name',
    [
        ('naclip', 'ade'),
        *(
            pytest.param(base, name, marks=pytest.mark.slow)
            for base, name in [('naclip', 'voc20'), ('naclip', 'ade_thd0.9')]
            + [(base, name) for base in ('clearclip', 'sclip') for name in ('ade', 'voc20')]
        ),
    ],
)
@torch.no_grad()
def test_official_outputs(build_method, family, pixels, thinned, device, base, name):
    model = build_method(BASES[base], settings(name)).to(device)
    feedback = model.backbone.decoder.attention.base
    for size in SIZES:
        images = pixels(*size)[None].to(device)
        key, place = f'resclip/{base}/{name}', f'{size[0]}x{size[1]}'
        first, b = second_pass(model, images)
        tokens = model.encode(images).patches[0]
        assert feedback.label_grid(b)[0].tolist() == family[f'{key}/labels/{place}'].tolist()
        np.testing.assert_allclose(thinned(tokens, size), family[f'{key}/rcs_sfr/{place}'], atol=1e-4)
        if f'{key}/rcs/{place}' in family:
            np.testing.assert_allclose(thinned(first.patches[0], size), family[f'{key}/rcs/{place}'], atol=5e-5)
        if f'{key}/sfr_rows/{place}' in family:
            theirs = family[f'{key}/sfr_rows/{place}']  # of the class token and every 28th patch
            assert not theirs[0].any() and not theirs[:, 0].any()
            np.testing.assert_allclose(feedback.matrix(b)[0, 27::28].cpu(), theirs[1:, 1:], atol=1e-7)


@pytest.mark.parametrize('base', BASES)
@torch.no_grad()
def test_the_formula_on_a_wide_window(build_method, wide, base):
    model = build_method(BASES[base], {**settings('voc20'), f'{ATTENTION}.blocks': (3, -2)})
    attention = model.backbone.decoder.attention
    assert model.backbone.decoder.needs == {2, 10, 11}
    _, b = second_pass(model, wide)
    weights, even = attention.weights(b), attention.weights(b, mix=torch.zeros_like)
    similarity = attention.base.similarity(b)
    sources = [b.earlier(3), b.earlier(11)]
    assert all(source.feedback is b.feedback for source in sources)
    places = np.stack(np.divmod(np.arange(60), 10), 1)
    prior = np.zeros((61, 61))
    prior[1:, 1:] = np.exp(-((places[:, None] - places) ** 2).sum(-1) / 50)
    prior = prior if base == 'naclip' else 0 * prior
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
            total = total + softmax(2.1 * (0.4 * logits + bonus) + prior)
        np.testing.assert_allclose(weights[image], 2.0 * (0.4 * total + 0.6 * residual / 2), atol=1e-5)
        expected = 2.0 * (0.4 * len(streams) * softmax(prior) + 0.6 * residual / 2)
        np.testing.assert_allclose(even[image], expected, atol=1e-5)  # `mix` acts on the terms of the base


@torch.no_grad()
def test_each_part_alone(build_method, wide):
    model = build_method('resclip', {f'{ATTENTION}.base': dict(_delete_=True, type='NeighbourAttention')})
    assert model.backbone.passes == 1
    first, _ = second_pass(build_method('resclip'), wide)
    torch.testing.assert_close(model.encode(wide).patches, first.patches)

    alone = dict(_delete_=True, type='SemanticFeedback', base=dict(type='NeighbourAttention'))
    model = build_method('resclip', {ATTENTION: alone})
    assert model.backbone.passes == 2 and model.backbone.decoder.needs == {11}
    first, _ = second_pass(model, wide)
    torch.testing.assert_close(first.patches, build_method('naclip').encode(wide).patches)
    assert (model.encode(wide).patches - first.patches).abs().max() > 0.01
    with pytest.raises(ConfigError, match='one pass'):
        build_method('resclip', {f'{ATTENTION}.base.base': alone})


@torch.no_grad()
def test_labels_follow_scale_and_threshold(build_method, wide):
    labels = {}
    for scale, threshold in [(40, 0.1), (40, 0.9), (0.01, 0.15)]:
        options = {f'{ATTENTION}.base.logit_scale': scale, f'{ATTENTION}.base.threshold': threshold}
        model = build_method('resclip', options)
        labels[scale, threshold] = model.backbone.decoder.attention.base.label_grid(second_pass(model, wide)[1])
    assert labels[40, 0.1].any()
    assert (labels[40, 0.9] == 0).sum() > (labels[40, 0.1] == 0).sum()
    assert not labels[0.01, 0.15].any()  # the probabilities of seven queries are all 1 / 7


def test_ties_go_to_the_smaller_label():
    """Pixels with equal scores, also of queries that are worked on apart, and patches with equally frequent labels."""
    labels = torch.tensor([[[3, 1, 2, 2], [1, 3, 0, 0]]])
    assert patch_labels(labels, (1, 2), (2, 2), 4).tolist() == [[[1, 0]]]
    scores = torch.zeros(1, 40, 1, 1)
    scores[:, [5, 9, 35]] = 0.3
    assert refined_labels(scores, torch.randn(1, 3, 2, 2), 40, 0.1, 0, (8,)).unique().tolist() == [5]


@torch.no_grad()
def test_dilations_steps_blur_and_decay_of_the_config(build_method, wide):
    base = f'{ATTENTION}.base'
    model = build_method('resclip', {f'{base}.dilations': (1, 30), f'{base}.blur': 0.8, f'{base}.steps': 4})
    scores = 3 * torch.rand(2, 7, 6, 10, generator=torch.Generator().manual_seed(0)) / 20
    b = model.backbone.record(wide).block_input(12, feedback=Feedback(scores))
    feedback = model.backbone.decoder.attention.base
    grids = [
        patch_labels(refined_labels(scores, wide, 40, 0.25, 4, dilations), (6, 10), (16, 16), 7)
        for dilations in ((1, 30), (8, 16))
    ]
    assert torch.equal(feedback.label_grid(b), grids[0]) and not torch.equal(*grids)
    taps = torch.exp(-0.5 * (torch.arange(-2, 3) / 0.8) ** 2).double()  # int(6 * 0.8 + 1) is 5
    band = torch.zeros(60, 60, dtype=torch.float64)
    for i in range(60):
        for j in range(max(0, i - 2), min(60, i + 3)):
            band[i, j] = (taps / taps.sum())[j - i + 2]
    blurred = same_label(grids[0]).double() @ band
    expected = blurred / (blurred.sum(-1, keepdim=True) + 1e-8)
    torch.testing.assert_close(feedback.matrix(b).double(), expected, atol=1e-6, rtol=0)

    plain = build_method('resclip', {f'{base}.steps': 0, f'{base}.decay': False, f'{base}.blur': None})
    feedback = plain.backbone.decoder.attention.base
    same = same_label(feedback.label_grid(b), decay=False)
    torch.testing.assert_close(feedback.matrix(b), same / same.sum(-1, keepdim=True))
