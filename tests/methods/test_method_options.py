"""Options, batches and rare shapes of the methods' parts, against loops and their definitions."""

import copy
import math

import numpy as np
import pytest
import torch
from mmseg.registry import MODELS
from mmseg_sclip.models.streams import Memory
from torch.nn import functional as F

from mmseg_sclip.errors import ConfigError
from mmseg_sclip.models import Attention, BlockInput, Feedback, Tokens
from mmseg_sclip.models.methods.freecp.head import purify
from mmseg_sclip.models.methods.gem.attention import _set_length
from mmseg_sclip.models.methods.pearl.propagation import propagate
from mmseg_sclip.models.methods.resclip.label_grids import patch_labels, refined_labels, same_label

ATTENTION = 'backbone.decoder.attention'


def head_of(clip, kind, **config):
    return MODELS.build(dict(type=kind, clip=clip, vocabulary=['cat', 'dog', 'tree'], templates='simple') | config)


@pytest.mark.parametrize('layer', [-1, -2, 0])
@pytest.mark.parametrize('cut', [0, 0.3, 1])
@torch.no_grad()
def test_maps_against_loops(mini_clip, layer, cut):
    head = head_of(mini_clip, 'EarlyLayerFusionHead', background_index=1, layer=layer, attention_thd=cut, scale=30)
    torch.manual_seed(0)
    head.text_bank = F.normalize(torch.randn(3, 8), dim=-1)
    tokens = Tokens(torch.zeros(2, 6, 8), None, (2, 3), affinity=torch.rand(2, 6, 6))
    tokens.layers = F.normalize(torch.randn(2, 2, 3, 6, 8), dim=-1)
    ours = head(tokens)
    text = head.text_bank.double().numpy()
    mean = text[[0, 2]].mean(0) / np.linalg.norm(text[[0, 2]].mean(0))
    for image in range(2):
        layers = []
        for k in range(3):
            views = [np.exp(30 * view[k].double().numpy() @ np.vstack([text, mean]).T) for view in tokens.layers[image]]
            layers.append(sum(v / v.sum(1, keepdims=True) for v in views)[:, [0, 2]].T / 2)
        chosen = layers[layer]
        chosen[chosen < cut * chosen.max(1, keepdims=True) * (1 - 1e-6)] = 0
        expected = chosen @ tokens.affinity[image].double().numpy() + sum(layers) / 3
        np.testing.assert_allclose(ours[image, [0, 2]].flatten(1), expected, atol=1e-5)
    assert not ours[:, 1].any()
    with torch.autocast('cpu', torch.bfloat16):
        assert torch.equal(head(tokens), ours)


@torch.no_grad()
def test_scale_and_box_threshold_of_the_config(mini_clip):
    torch.manual_seed(0)
    bank, patches = F.normalize(torch.randn(3, 8), dim=-1), torch.randn(2, 20, 8)
    tokens = Tokens(patches, None, (4, 5), affinity=torch.rand(2, 20, 20).softmax(-1))
    found = {}
    for scale, thd in [(5, 0.4), (5, 0.9), (40, 0.4), (None, 0.4)]:
        head = head_of(mini_clip, 'RedundancyPurificationHead', scale=scale, box_thd=thd, redundancy_thd=0)
        head.text_bank = bank
        found[scale, thd] = head(tokens)

        cosines = (F.normalize(patches, dim=-1) @ bank.T).transpose(1, 2).unflatten(2, (4, 5))
        factor = math.exp(4.6015625) if scale is None else scale  # the recipe's 4.6 in half precision
        expected = purify((factor * cosines).softmax(1), torch.ones(3, dtype=torch.bool), tokens.affinity, thd)
        torch.testing.assert_close(
            found[scale, thd], expected.refined * (expected.agreement > 0)[..., None, None], atol=1e-4, rtol=0
        )
        with torch.autocast('cpu', torch.bfloat16):
            assert torch.equal(head(tokens), found[scale, thd])
    assert (found[5, 0.4] - found[5, 0.9]).abs().max() > 0.01
    for scale in (5, None):
        assert (found[40, 0.4] - found[scale, 0.4]).abs().max() > 0.01


def test_the_redundant_phrase_is_the_one_of_the_config(mini_clip):
    head = head_of(mini_clip, 'FeatureSurgeryHead', redundant='dog')
    features = torch.randn(1, 64, 2, 3)
    scores = head(features)
    assert scores[:, 1].abs().max() < 1e-6 and scores[:, 0].abs().max() > 1e-3  # 'dog' less itself


@MODELS.register_module()
class ToyPasses(Attention):
    """Queries with keys of block 1, sharper in each pass; remembers the feedback."""

    def __init__(self, passes=3):
        super().__init__()
        self.count, self.seen = passes, []

    def bind(self, tower):
        self.passes, self.needs = self.count, frozenset({0})

    def terms(self, b):
        self.seen.append(b.feedback)
        sharp = 1 if b.feedback is None else 2 + b.feedback.scores.mean()
        return [b.earlier(1).q @ b.k.transpose(-1, -2) * b.scale * sharp]


DECODERS = {
    'LastBlock': dict(type='LastBlock', attention=dict(type='ToyPasses')),
    'ParallelPath': dict(type='ParallelPath', blocks=1, attention=dict(type='ToyPasses')),
    'BlockMean': dict(
        type='LastBlock', attention=dict(type='BlockMeanAttention', blocks=(-1,), attention=dict(type='ToyPasses'))
    ),
}


@pytest.mark.parametrize('kind', DECODERS)
@torch.no_grad()
def test_each_pass_sees_the_scores_of_the_one_before(mini_clip, kind):
    model = MODELS.build(
        dict(
            type='SCLIPSegmentor',
            clip=mini_clip,
            backbone=dict(type='CLIPVisionTransformer', decoder=copy.deepcopy(DECODERS[kind])),
            decode_head=dict(type='TextSimilarityHead', vocabulary=['cat', 'dog'], templates='simple'),
        )
    )
    attention = model.backbone.decoder.attention
    attention = getattr(attention, 'attention', attention)
    assert model.backbone.passes == 3 and 0 in model.backbone.decoder.needs
    images, given = torch.randn(1, 3, 48, 64), []
    original = model.decode_head.between_passes
    model.decode_head.between_passes = lambda tokens: given.append(original(tokens)) or given[-1]
    model.encode(images)
    assert len(given) == 2 and attention.seen[0] is None
    assert [feedback.scores is scores for feedback, scores in zip(attention.seen[1:], given, strict=True)] == [True] * 2
    assert not torch.equal(*given)


@torch.no_grad()
def test_pictures_see_what_the_other_decoder_sees(build_method, pixels):
    inner = build_method('sc_clip').backbone.decoder
    outer = MODELS.build(dict(type='WithMeanAttention', decoder=inner))
    tower = build_method('sc_clip').backbone.tower
    outer.bind(tower)
    memory = tower.record(pixels(96, 160)[None], outer.needs)
    assert torch.equal(outer.block_input(tower, 12, memory).x, inner.block_input(tower, 12, memory).x)
    assert not torch.equal(outer.block_input(tower, 12, memory).x, tower.block_input(12, memory).x)


@pytest.mark.parametrize(
    'config',
    [
        dict(type='BlockMeanAttention', blocks=(-2, -1)),
        dict(type='ResidualCrossCorrelation', base=dict(type='VanillaSelfAttention'), blocks=(2, 3)),
        dict(type='SelfCalibratedAttention', affinity_block=2, neighbours=5),
    ],
    ids=lambda config: config['type'],
)
@torch.no_grad()
def test_mix_reaches_the_products(mini_clip, config):
    backbone = MODELS.build(
        dict(type='CLIPVisionTransformer', clip=mini_clip, decoder=dict(type='LastBlock', attention=config))
    )
    memory = backbone.tower.record(torch.randn(2, 3, 48, 64), range(4))
    b, attention = backbone.tower.block_input(3, memory), backbone.decoder.attention
    even = attention.weights(b, mix=torch.zeros_like)[:, :, 1:, 1:]
    if config['type'] == 'BlockMeanAttention':
        torch.testing.assert_close(even, torch.full_like(even, 1 / 13))
        return
    if config['type'] == 'ResidualCrossCorrelation':
        other = sum((s.q @ s.k.transpose(-1, -2) / 8).softmax(-1) for s in map(b.earlier, (2, 3))) / 2
        expected = 2 * (0.7 / 13 + 0.3 * other[:, :, 1:, 1:])
    else:
        shared = attention.shared(attention.affinity(memory, attention.outliers(memory)))
        expected = ((shared + 1 / 12) / 2)[:, None].expand_as(even)
    torch.testing.assert_close(even, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize('kind', ['SelfCalibratedAttention', 'DensityOutliers'])
@torch.no_grad()
def test_neighbours_and_share_of_the_config(build_method, kind):
    options = dict(neighbours=5)
    if kind == 'DensityOutliers':
        part = MODELS.build(dict(type=kind, share=0.25, **options))
    else:
        part = MODELS.build(dict(type=kind, outlier_share=0.25, **options))
    tower = build_method('sclip').backbone.tower
    part.bind(tower)

    memory = Memory(None, (4, 5))
    memory[11] = torch.randn(2, 21, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    ours = part(memory) if kind == 'DensityOutliers' else part.outliers(memory)
    for image, found in zip(memory[11][:, 1:].numpy(), ours, strict=True):
        squared = ((image[:, None] - image) ** 2).sum(-1)
        near = [[j for j in np.argsort(row) if j != i][:5] for i, row in enumerate(squared)]
        reach = [squared[i, each[-1]] for i, each in enumerate(near)]
        scores = np.array([np.mean([reach[i] / reach[j] for j in each]) for i, each in enumerate(near)])
        assert found.tolist() == (scores > np.quantile(scores, 0.75)).tolist() and sum(found) == 5


@pytest.mark.parametrize('kind', ['SelfCalibratedAttention', 'PurifiedAttention'])
def test_sharpness_and_threshold_of_the_config(kind):
    more = dict(threshold=0.7) if kind == 'PurifiedAttention' else {}
    attention = MODELS.build(dict(type=kind, sharpness=7.0, affinity_block=2, **more))

    memory = Memory(None, (2, 3))
    memory[2] = torch.randn(2, 7, 4, generator=torch.Generator().manual_seed(0))
    affinity = attention.affinity(memory, torch.zeros(2, 6, dtype=torch.bool))
    shared = attention.shared(affinity.clone())
    for image in range(2):
        x = memory[2][image, 1:].double().numpy()
        cosines = x @ x.T / np.outer(*[np.linalg.norm(x, axis=1)] * 2)
        if more:
            cosines = np.where(cosines < 0.7, 0, cosines)
        np.testing.assert_allclose(affinity[image], cosines, atol=1e-6)
        logits = 7 * (cosines - cosines.mean())
        exp = np.where(logits < 0, 0, np.exp(logits))
        np.testing.assert_allclose(shared[image], exp / exp.sum(1, keepdims=True), atol=1e-5)


@torch.no_grad()
def test_gain_and_count_of_the_detectors(build_method, pixels):
    tower = build_method('sclip').backbone.tower
    memory = tower.record(pixels(96, 160)[None], range(12))
    one, five = (MODELS.build(dict(type='AttentionOutliers', gain=gain)) for gain in (1.0, 5.0))
    one.bind(tower)
    five.bind(tower)
    torch.testing.assert_close(five.looks(memory)[0], 5 * one.looks(memory)[0])
    for count, expected in ((4, 4), (100, 60)):  # there are 60 patches
        detector = MODELS.build(dict(type='NormOutliers', count=count))
        detector.bind(tower)
        found = detector(memory)[0]
        assert found.sum() == expected
        lengths = memory[11][0, 1:].norm(dim=-1)
        assert set(lengths.argsort(descending=True)[:expected].tolist()) == set(found.nonzero()[:, 0].tolist())


def test_lengths_are_exact_in_bfloat16_and_of_zero_vectors():
    x = torch.randn(1, 2, 50, 64, generator=torch.Generator().manual_seed(0)).bfloat16()
    x[0, 0, 0] = 0
    ours = _set_length(x, 3.0)
    exact = x.double()
    factor = 3.0 / exact.norm(dim=-1, keepdim=True).clamp(min=1e-12)
    assert torch.equal(ours, x * factor.bfloat16()) and not ours[0, 0, 0].any()


def test_even_attention_has_a_map_without_nan(mini_clip):
    attention = MODELS.build(dict(type='EarlyLayerAttention'))
    attention.depth = 3
    q = torch.zeros(1, 2, 5, 4)
    b = BlockInput(q, q, q, torch.zeros(1, 5, 8), (2, 2), 1, 0.5)
    b.lookup = lambda number: b
    assert all(weights.isfinite().all() for weights in attention.rounds(b))


@torch.no_grad()
def test_dilations_and_blur_of_the_config(build_method, pixels):
    wide = torch.stack([pixels(96, 160), pixels(96, 160, offset=1)])
    base = f'{ATTENTION}.base'
    model = build_method('resclip', {f'{base}.dilations': (1, 30), f'{base}.blur': 0.8, f'{base}.steps': 4})
    memory = model.backbone.record(wide)
    scores = 3 * torch.rand(2, 7, 6, 10, generator=torch.Generator().manual_seed(0)) / 20
    b = model.backbone.tower.block_input(12, memory, Feedback(scores))
    feedback = model.backbone.decoder.attention.base
    grids = [
        patch_labels(refined_labels(scores, wide, 40, 0.25, 4, dilations), (6, 10), (16, 16), 7)
        for dilations in ((1, 30), (8, 16))
    ]
    assert torch.equal(feedback.label_grid(b), grids[0]) and not torch.equal(*grids)
    same = same_label(grids[0]).double()
    places = torch.arange(60)
    taps = torch.exp(-0.5 * (torch.arange(-2, 3) / 0.8) ** 2).double()  # int(6 * 0.8 + 1) is 5
    band = torch.zeros(60, 60, dtype=torch.float64)
    for i in places.tolist():
        for j in range(max(0, i - 2), min(60, i + 3)):
            band[i, j] = (taps / taps.sum())[j - i + 2]
    blurred = same @ band
    expected = blurred / (blurred.sum(-1, keepdim=True) + 1e-8)
    torch.testing.assert_close(feedback.matrix(b).double(), expected, atol=1e-6, rtol=0)


def on_maps(clip, words, refinement):
    return MODELS.build(
        dict(
            type='SCLIPSegmentor',
            clip=clip,
            backbone=dict(type='CLIPVisionTransformer', decoder=dict(type='EarlyLayerFusion')),
            decode_head=dict(type='EarlyLayerFusionHead', vocabulary=words, templates='simple', background_index=0),
            test_cfg=dict(mode='whole', logit_scale=None, refine=[dict(type=refinement)]),
        )
    ).eval()


def test_the_rule_for_cosines_is_refused_on_maps(mini_clip):
    with pytest.raises(
        ConfigError, match='ForegroundOnly compares cosines, but EarlyLayerFusionHead gives class scores'
    ):
        on_maps(mini_clip, ['sky', 'cat', 'dog'], 'ForegroundOnly')


@torch.no_grad()
def test_maps_of_a_repeated_phrase_are_propagated_each(mini_clip):
    model = on_maps(mini_clip, ['sky', ['cat', 'bed'], 'bed'], 'TextLabelPropagation')
    bank = model.decode_head.encode_vocabulary(torch.device('cpu'))[[0, 1, 2, 2]]
    scores, image = torch.rand(4, 20, 30), torch.randn(3, 20, 30)
    expected = propagate(scores, image, bank, torch.ones(4), 80)
    torch.testing.assert_close(model.refinements[0](scores, image), expected)
    assert model.predict([torch.randn(3, 64, 64)])[0].pred_sem_seg.data.shape == (1, 64, 64)


def test_the_embedding_is_no_block_with_queries(mini_clip):
    decoder = dict(type='LastBlockWithAffinity', attention=dict(type='VanillaSelfAttention'), affinity_block=0)
    with pytest.raises(ConfigError, match='affinity_block is 0, which is no block. Give one of 1 to 3'):
        MODELS.build(dict(type='CLIPVisionTransformer', clip=mini_clip, decoder=decoder))
