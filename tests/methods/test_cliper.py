"""CLIPer without diffusion: the official code's outputs."""

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import sample, softmax
from mmengine.config import Config
from mmseg.registry import MODELS
from torch.nn import functional as F

from mmseg_sclip.engine.flops import count
from mmseg_sclip.errors import ConfigError
from mmseg_sclip.models.image.geometry import axis_matrix, image_axes
from mmseg_sclip.models.image.scores import PixelScores
from mmseg_sclip.models.methods.cliper.decoder import LayerTokens

ROOT = Path(__file__).resolve().parents[2]
GOLDENS = np.load(ROOT / 'tests' / 'data' / 'newer_seed0.npz')
SIZES = {(224, 224): 2, (160, 224): 3, (336, 336): 5, (336, 448): 5}  # every so many tokens are stored
VOCABULARY = [['sky', 'wall'], 'aeroplane', 'person', 'cat', 'dog', 'train']
ORDER = [5, 6, 0, 1, 2, 3, 4]  # the background's phrases are last in the goldens
# name: (settings of the head, prob_thd)
SETS = {
    'voc21': (dict(scale=100, attention_thd=0.1, score_thd=0.7, min_max=True), 0.6),
    'coco': (dict(scale=50, attention_thd=0.2, score_thd=0.3), 0.3),
    'stuff': (dict(scale=50, attention_thd=0.2, score_thd=0.1), 0.1),
    'city': (dict(scale=100, attention_thd=0.35, score_thd=0), 1e-4),
}
CASES = [
    pytest.param(name, size, marks=[pytest.mark.slow] if size == '336x448' and name != 'voc21' else [])
    for name, size in sorted(key.split('/')[1::2] for key in GOLDENS if key.startswith('cliper/') and '/seg/' in key)
]


@pytest.fixture
def build(build_method):
    """`build(vocabulary, background, decoder=dict(), **head)` is the shipped model with other settings."""

    def build(vocabulary=VOCABULARY, background=0, decoder=None, test_cfg=None, **head):
        groups = {'backbone.decoder': decoder, 'test_cfg': test_cfg, 'decode_head': head}
        options = {f'{group}.{key}': value for group, each in groups.items() for key, value in (each or {}).items()}
        return build_method('cliper', options, vocabulary, background)

    return build


@pytest.mark.parametrize('size', SIZES, ids=str)
@torch.no_grad()
def test_tokens_and_attention_of_the_official_code(build, pixels, size):
    backbone, name = build().backbone, f'{size[0]}x{size[1]}'
    record = backbone.record(pixels(*size)[None])
    tokens = backbone.decoder(record)
    fused, _ = backbone.decoder._fuse(record)
    golden = GOLDENS[f'cliper/{name}']
    np.testing.assert_allclose(fused[0, [0, 5, 10, 11], 1 :: SIZES[size]], golden, atol=1e-4)
    np.testing.assert_allclose(tokens.patches[0, :: SIZES[size]], golden[-1], atol=1e-4)
    torch.testing.assert_close(tokens.layers[:, 0, -1], F.normalize(tokens.patches, dim=-1))
    if f'cliper/attn_rows/{name}' in GOLDENS:
        weights = backbone.decoder.attention.weights(record.block_input(12))
        np.testing.assert_allclose(weights[0, :, ::28], GOLDENS[f'cliper/attn_rows/{name}'], atol=5e-6)


@pytest.mark.parametrize('name, size', CASES, ids=str)
@torch.no_grad()
def test_maps_and_labels_of_the_official_code(build, pixels, name, size):
    settings, threshold = SETS[name.removesuffix('_slide')]
    decoder = dict(crop_size=224 if name.endswith('_slide') else None)
    model = build(decoder=decoder, test_cfg=dict(prob_thd=threshold, keep_scores=True), **settings)
    model.decode_head.text_bank = torch.from_numpy(GOLDENS[f'cliper/text/{size}'])[ORDER]
    image, key = pixels(*map(int, size.split('x')))[None], f'cliper/{name}'
    golden = GOLDENS[f'{key}/pred/{size}']
    result = sample(golden.shape)
    (scores,) = model.score(image, [result])
    model.label(scores, image[0], result)
    maps = scores.patches.transpose(0, 1)  # of the one window: (Q, h, w)
    np.testing.assert_allclose(maps[2:], GOLDENS[f'{key}/seg/{size}'], atol=1e-4)
    np.testing.assert_allclose(scores.peaks()[2:], GOLDENS[f'{key}/score/{size}'], atol=2e-5)
    assert (result.pred_sem_seg.data[0].numpy() == golden).mean() >= 0.9999
    large = result.seg_logits.data[1:, 7::16, 7::16]
    np.testing.assert_allclose(torch.where(large < threshold, 0, large), GOLDENS[f'{key}/cam/{size}'], atol=1e-4)


@pytest.mark.parametrize('layer', [12, -13])
def test_a_layer_that_the_tower_does_not_have_is_refused_when_the_model_is_built(build, layer):
    with pytest.raises(
        ConfigError, match=f'decode_head.layer is {layer}, but the decoder gives 12 layers: 0 to 11, or -12 to -1'
    ):
        build(layer=layer)
    nearest = 11 if layer > 0 else -12
    assert build(layer=nearest).decode_head.layer == nearest


@pytest.mark.parametrize('layer', [-1, -2, 0])
@pytest.mark.parametrize('cut', [0, 0.3, 1])
@torch.no_grad()
def test_maps_against_loops(build, layer, cut):
    head = build(['cat', 'dog', 'tree'], 1, layer=layer, attention_thd=cut, scale=30).decode_head
    torch.manual_seed(0)
    head.text_bank = F.normalize(torch.randn(3, 8), dim=-1)
    layers = F.normalize(torch.randn(2, 2, 3, 6, 8), dim=-1)
    tokens = LayerTokens(torch.zeros(2, 6, 8), None, (2, 3), torch.rand(2, 6, 6), layers)
    ours, text = head(tokens), head.text_bank.double().numpy()
    mean = text[[0, 2]].mean(0) / np.linalg.norm(text[[0, 2]].mean(0))
    for image in range(2):
        views = softmax(30 * layers[image].double().numpy() @ np.vstack([text, mean]).T)
        maps = views[..., [0, 2]].mean(0).transpose(0, 2, 1)  # (layers, F, n)
        maps[layer][maps[layer] < cut * maps[layer].max(1, keepdims=True) * (1 - 1e-6)] = 0
        expected = maps[layer] @ tokens.affinity[image].double().numpy() + maps.mean(0)
        np.testing.assert_allclose(ours[image, [0, 2]].flatten(1), expected, atol=1e-5)
    assert not ours[:, 1].any()


def label_by_hand(maps, peaks, score_thd, least, min_max):
    """CLIPer's label of one pixel after the other: 0 for the background, the classes from 1."""
    changed = []
    for each, peak in zip(maps, peaks, strict=True):
        each = each / (each.max() + 1e-5) * peak
        if min_max:
            each = each - each.min()
            each = each / (each.max() + 1e-6)
        changed.append(np.where(each < least, 0, each) if peak > score_thd else np.zeros_like(each))
    labels = np.zeros(maps.shape[1:], int)
    for row in range(labels.shape[0]):
        for column in range(labels.shape[1]):
            pixel = [each[row, column] for each in changed]
            labels[row, column] = 0 if max(pixel) == 0 else 1 + pixel.index(max(pixel))
    return labels


@pytest.mark.parametrize('background', [0, 2])
@pytest.mark.parametrize('min_max', [True, False])
@pytest.mark.parametrize('least', [0.3, None])
def test_labels_against_loops(build, background, min_max, least):
    words = ['person', 'cat', 'dog', 'train']
    words.insert(background, ['sky', 'wall'])
    model = build(words, background, test_cfg=dict(prob_thd=least), score_thd=0.6, min_max=min_max)
    torch.manual_seed(0)
    patches = torch.rand(6, 6, 8) ** 3 * torch.tensor([0.9, 0.9, 1.3, 0.5, 0.9, 0.7])[:, None, None]
    patches[~model.decode_head.foreground] = 0
    image, result = torch.zeros(3, 6, 8), sample((24, 32))
    maps = F.interpolate(patches[None], (24, 32), mode='bilinear')[0]
    rows, columns = image_axes((6, 8), result.metainfo)
    scores = PixelScores(patches.transpose(0, 1), axis_matrix(rows, None, 6), axis_matrix(columns, None, 8))
    labels = model.label(scores, image, result).pred_sem_seg.data[0].numpy()
    foreground = model.decode_head.foreground.numpy()
    expected = label_by_hand(
        maps.numpy()[foreground], patches.amax(dim=(1, 2)).numpy()[foreground], 0.6, least or 0, min_max
    )
    names = np.array([background, *[i for i in range(5) if i != background]])
    assert (labels == names[expected]).all()
    assert len(np.unique(labels)) >= 2 and (background in labels) == (least is not None)


def test_where_no_class_is_in_the_image_all_is_background(build):
    model, result = build(['cat', ['sky', 'wall'], 'dog'], 1, score_thd=1), sample((5, 4))
    patches = torch.tensor([0.9, 0, 0, 0.8])[:, None].expand(5, 4, 4)
    model.label(PixelScores(patches, torch.eye(5), torch.eye(4)), torch.zeros(3, 5, 4), result)
    assert result.pred_sem_seg.data.unique().tolist() == [1]


@torch.no_grad()
def test_windows_one_after_the_other(build, pixels):
    model = build(decoder=dict(crop_size=70, stride=50))
    backbone, image = model.backbone, pixels(112, 150)[None]  # windows of 4 patches, 3 between them, in 7 x 9
    layers, graph, seen = torch.zeros(12, 7, 9, 64), torch.zeros(7, 9, 7, 9), torch.zeros(7, 9)
    pairs = torch.zeros(7, 9, 7, 9)
    for top in (0, 3):
        for left in (0, 3, 5):
            crop = image[:, :, 16 * top : 16 * top + 64, 16 * left : 16 * left + 64]
            tokens, affinity = backbone.decoder._fuse(backbone.record(crop))
            place = np.s_[top : top + 4, left : left + 4]
            layers[(slice(None), *place)] += F.normalize(tokens[0, :, 1:], dim=-1).view(12, 4, 4, 64)
            graph[(*place, *place)] += affinity.view(4, 4, 4, 4)
            seen[place] += 1
            pairs[(*place, *place)] += 1
    graph = (graph / (pairs + 1e-5)).view(63, 63)
    mean = (layers / seen[..., None]).flatten(1, 2)
    expected = torch.einsum('ij,kid->kjd', graph / graph.sum(1, keepdim=True), mean)
    ours = model.encode(torch.cat([image.flip(3), image])).layers
    assert ours.shape == (2, 2, 12, 63, 64)
    torch.testing.assert_close(ours[1, 1], expected, atol=1e-5, rtol=0)
    small = build(decoder=dict(crop_size=224)).encode(image[..., :48, :64]).layers  # smaller than a window
    assert small.shape == (1, 2, 12, 12, 64) and small.isfinite().all()


@torch.no_grad()
def test_its_attention_in_another_decoder(build_method, wide):
    """The formula of the map, written out, in a decoder that knows nothing of layers."""
    model = build_method('sclip', {'backbone.decoder.attention': dict(_delete_=True, type='EarlyLayerAttention')})
    record = model.backbone.record(wide)
    ours = model.backbone.decoder.attention.weights(record.block_input(12))
    inputs = [record.block_input(number) for number in range(1, 12)]
    for image in range(2):
        for head in range(2):
            a = sum(softmax(b.q[image, head].numpy() @ b.k[image, head].numpy().T / 8) for b in inputs)
            for _ in range(12):
                a = a / a.sum(0)
                a = a / a.sum(1)[:, None]
            cut = (a + a.T) / 2
            cut = np.maximum(cut - cut.mean(0), 0)
            np.testing.assert_allclose(ours[image, head], cut / cut.sum(1)[:, None], atol=1e-5)


def test_even_attention_has_a_map_without_nan(block):
    attention = MODELS.build(dict(type='EarlyLayerAttention'))
    attention.depth = 3
    block.q = block.k = block.v = torch.zeros(1, 2, 4, 4)  # four tokens, whose quarters are exact
    block.record.block_input = lambda *args, **more: block
    assert all(weights.isfinite().all() for weights in attention.rounds(block))


@pytest.mark.slow
def test_the_cost_of_windows_is_counted(deep_clip):
    config = Config.fromfile(ROOT / 'configs' / 'sclip_voc21.py')
    config.model.clip = dict(deep_clip, pretrained=None)
    window = count(config, (375, 500)).clip_per_window  # of 224 pixels
    config.model = Config.fromfile(ROOT / 'configs' / '_base_' / 'models' / 'cliper.py').model
    config.model.clip, config.model.decode_head.vocabulary = dict(deep_clip, pretrained=None), 'voc21'
    whole = count(config, (375, 500)).per_image
    config.model.backbone.decoder.crop_size = 224
    assert whole + 6 * window < count(config, (375, 500)).per_image < whole + 12 * window  # six in 336 x 448
