"""SFP against the official outputs, and its outliers against a second implementation."""

import numpy as np
import pytest
import torch
from mmseg.registry import MODELS

from mmseg_sclip.models.methods.sc_clip.outliers import local_outlier_scores
from mmseg_sclip.models.methods.sfp.detectors import AttentionOutliers

SEVEN = ['cat', 'dog', 'bird', 'tree', 'house', 'car', 'sky']
SIZES = [(224, 224), (336, 336)]
DETECTOR = 'backbone.decoder.attention.detector'
DETECTORS = {'SOM': 'AttentionOutliers', 'L2': 'NormOutliers', 'LOF': 'DensityOutliers'}


def name(size):
    return f'{size[0]}x{size[1]}'


@pytest.fixture
def build(build_method):
    return lambda key, **options: build_method('sfp', {DETECTOR: dict(type=DETECTORS[key], _delete_=True), **options})


@pytest.mark.parametrize('key', DETECTORS)
@torch.no_grad()
def test_tokens_and_outliers(build, newer, pixels, check_tokens, device, key):
    model = build(key).to(device)
    check_tokens(model, newer, f'sfp/{key}', 2e-4)
    for size in SIZES:
        outliers = model.backbone.decoder.attention.outliers(model.backbone.record(pixels(*size)[None].to(device)))[0]
        assert outliers.nonzero()[:, 0].tolist() == sorted(newer[f'sfp/{key}/outliers/{name(size)}'])


@pytest.mark.parametrize('size', SIZES, ids=name)
@torch.no_grad()
def test_what_the_outliers_are_chosen_by_affinities_and_scores(build, newer, pixels, size):
    model = build('SOM')
    attention, record = model.backbone.decoder.attention, model.backbone.record(pixels(*size)[None])
    of_class, of_itself = attention.detector.looks(record)
    np.testing.assert_allclose(of_class[0], newer[f'sfp/SOM/cls_attn/{name(size)}'], atol=5e-6)
    np.testing.assert_allclose(of_itself[0], newer[f'sfp/SOM/self_attn/{name(size)}'], atol=5e-6)
    lonely = local_outlier_scores(record.patches(11))[0]
    np.testing.assert_allclose(lonely, newer[f'sfp/LOF/lof/{name(size)}'], atol=1e-4)
    scores = model.decode_head(model.backbone.decoder(record))[0].flatten(1).T
    np.testing.assert_allclose(scores, newer[f'sfp/SOM/score/{name(size)}'], atol=2e-5)
    if size == (224, 224):
        affinity = attention.affinity(record, attention.outliers(record))[0, ::28].numpy()
        theirs = newer['sfp/SOM/pre_sim_rows/224x224']
        # A cosine within rounding of the threshold may be 0 in one and 0.4 in the other.
        edge = np.abs(np.maximum(affinity, theirs) - 0.4) < 2e-6
        assert edge.sum() <= 2
        np.testing.assert_allclose(affinity[~edge], theirs[~edge], atol=5e-6)


E2E = {
    'voc21like': ([SEVEN[:2], *SEVEN[2:]], 0, dict(logit_scale=50, prob_thd=0.15, area_thd=0.1)),
    'adelike': (SEVEN, None, dict(logit_scale=40)),
}


@pytest.mark.parametrize('case', E2E)
def test_label_maps(build_method, newer, pixels, predict, case):
    vocabulary, background, settings = E2E[case]
    options = {f'test_cfg.{key}': value for key, value in settings.items()}
    model = build_method('sfp', options, vocabulary, background)
    labels, scores = predict(model, pixels(336, 448), (375, 500))
    assert (labels == newer[f'sfp/e2e/{case}/pred']).mean() >= 0.9999
    np.testing.assert_allclose(scores, newer[f'sfp/e2e/{case}/prob'], atol=1e-4)


@pytest.mark.parametrize('outliers', [[], [13, 14, 15, 27, 28, 29, 41, 42, 43], list(range(140))], ids=len)
@torch.no_grad()
def test_outliers_that_are_none_or_in_a_block_or_all(build_method, pixels, monkeypatch, outliers):
    """In the middle of a block of outliers there is nothing to repair from; the patch becomes zero, alike to itself."""
    model = build_method('sfp')
    attention, mask = model.backbone.decoder.attention, torch.zeros(1, 140, dtype=torch.bool)
    mask[0, outliers] = True
    monkeypatch.setattr(type(attention), 'outliers', lambda self, record: mask)
    tokens = model.encode(pixels(160, 224)[None])
    assert torch.isfinite(tokens.patches).all()
    affinity = attention.affinity(tokens.record, mask)
    empty = [number for number in outliers if len(outliers) == 140 or number == 28]  # on a grid of 10 x 14
    assert (affinity[0] == 0).all(dim=1).nonzero()[:, 0].tolist() == empty
    if len(outliers) == 9:
        assert torch.equal(attention.shared(affinity)[0, 28], torch.eye(140)[28])


@torch.no_grad()
def test_streams_of_the_last_block(build_method, wide):
    """Queries and keys have a softmax each on the calibrated patches; the sum of the middle blocks has none."""
    model = build_method('sfp')
    record, decoder = model.backbone.record(wide), model.backbone.decoder
    attention, b = decoder.attention, decoder.block_input(12, record)
    shared = attention.shared(attention.affinity(record, attention.outliers(record)))
    q, k, v = (x[:, :, 1:] for x in (b.q, b.k, b.v))
    maps = shared[:, None] + (q @ q.mT / 8).softmax(-1) + (k @ k.mT / 8).softmax(-1)
    torch.testing.assert_close(attention.attend(b)[:, :, 1:], maps / 3 @ v, atol=1e-5, rtol=0)
    alone = attention.attend_patches(b, shared, attention.level_streams)
    torch.testing.assert_close(alone, shared[:, None] @ v, atol=1e-5, rtol=0)


def test_fewer_candidates_than_the_count(monkeypatch):
    of_class = torch.tensor([[0.5, 0.1, 0.4, 0.3, 0.6], [0.1, 0.2, 0.1, 0.1, 0.1], [0.2] * 5])
    of_itself = torch.tensor([[0.2, 0.2, 0.2, 0.2, 0.2], [0.2, 0.1, 0.2, 0.2, 0.1], [0.2] * 5])
    monkeypatch.setattr(AttentionOutliers, 'looks', lambda self, record: (of_class, of_itself))
    assert AttentionOutliers(count=3)(None).int().tolist() == [[1, 0, 1, 0, 1], [0, 1, 0, 0, 0], [0, 0, 0, 0, 0]]


@torch.no_grad()
def test_gain_and_count_of_the_detectors(build_method, pixels):
    record = build_method('sfp').backbone.record(pixels(96, 160)[None])

    def bound(**config):
        detector = MODELS.build(config)
        detector.bind(record.tower)
        return detector

    one, five = (bound(type='AttentionOutliers', gain=gain).looks(record)[0] for gain in (1.0, 5.0))
    torch.testing.assert_close(five, 5 * one)
    longest = record[11][0, 1:].norm(dim=-1).argsort(descending=True).tolist()
    for count in (4, 60, 100):  # there are 60 patches
        found = bound(type='NormOutliers', count=count)(record)[0]
        assert sorted(longest[:count]) == found.nonzero()[:, 0].tolist()


def test_another_depth(build_method, mini_clip, pixels):
    decoder = 'backbone.decoder'
    options = {f'{decoder}.attention.affinity_block': -1, f'{decoder}.smoothing_block': 1, f'{decoder}.levels': (1, -2)}
    tokens = build_method('sfp', options, clip=mini_clip).encode(pixels(96, 64)[None])
    assert tokens.patches.shape == (1, 24, 64)
    with pytest.raises(ValueError, match='There is no block 9'):
        build_method('sfp', clip=mini_clip)
