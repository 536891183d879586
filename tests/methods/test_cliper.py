"""CLIPer without diffusion: the official code's outputs."""

from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch.nn import functional as F

from mmseg_sclip.engine.flops import count
from mmseg_sclip.errors import ConfigError
from mmseg_sclip.models.image.geometry import axis_matrix, image_axes
from mmseg_sclip.models.image.scores import PixelScores

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
CASES = sorted(tuple(key.split('/')[1::2]) for key in GOLDENS if key.startswith('cliper/') and '/seg/' in key)


@pytest.fixture(scope='module')
def build(deep_clip):
    """`build(name)` is the model of the shipped config with the synthetic weights and the settings of a set."""
    kept = {}

    def build(name):
        if name not in kept:
            model = Config.fromfile(ROOT / 'configs' / '_base_' / 'models' / 'cliper.py').model
            settings, threshold = SETS[name.removesuffix('_slide')]
            model.clip = deep_clip
            model.backbone.decoder.crop_size = 224 if name.endswith('_slide') else None
            model.decode_head.update(vocabulary=VOCABULARY, background_index=0, **settings)
            model.test_cfg.update(prob_thd=threshold, keep_scores=True)
            kept[name] = MODELS.build(model).eval()
        return kept[name]

    return build


@pytest.mark.parametrize('size', SIZES, ids=str)
def test_tokens_and_attention_of_the_official_code(build, pixels, size):
    backbone, name = build('voc21').backbone, f'{size[0]}x{size[1]}'
    with torch.no_grad():
        memory = backbone.record(pixels(*size)[None])
        tokens = backbone.decode(memory)
        fused, _ = backbone.decoder._fuse(backbone.tower, memory)
        weights = backbone.decoder.attention.weights(backbone.tower.block_input(12, memory))
    golden = GOLDENS[f'cliper/{name}']
    np.testing.assert_allclose(fused[0, [0, 5, 10, 11], 1 :: SIZES[size]], golden, atol=1e-4)
    np.testing.assert_allclose(tokens.patches[0, :: SIZES[size]], golden[-1], atol=1e-4)
    torch.testing.assert_close(tokens.layers[:, 0, -1], F.normalize(tokens.patches, dim=-1))
    if f'cliper/attn_rows/{name}' in GOLDENS:
        np.testing.assert_allclose(weights[0, :, ::28], GOLDENS[f'cliper/attn_rows/{name}'], atol=5e-6)


@pytest.mark.parametrize('name, size', CASES, ids=str)
def test_maps_and_labels_of_the_official_code(build, pixels, name, size):
    model, key = build(name), f'cliper/{name}'
    text = torch.from_numpy(GOLDENS[f'cliper/text/{size}'])
    model.decode_head.text_bank = text[ORDER]
    image = pixels(*map(int, size.split('x')))[None]
    golden = GOLDENS[f'{key}/pred/{size}']
    sample = SegDataSample(metainfo=dict(ori_shape=golden.shape))
    with torch.no_grad():
        (scores,) = model.score(image, [sample])
        model.label(scores, image[0], sample)
    maps = scores.patches.transpose(0, 1)  # of the one window: (Q, h, w)
    np.testing.assert_allclose(maps[2:], GOLDENS[f'{key}/seg/{size}'], atol=1e-4)
    np.testing.assert_allclose(scores.peaks()[2:], GOLDENS[f'{key}/score/{size}'], atol=2e-5)
    assert (sample.pred_sem_seg.data[0].numpy() == golden).mean() >= 0.9999
    large = sample.seg_logits.data[1:, 7::16, 7::16]
    large = torch.where(large < model.test_cfg.prob_thd, 0, large)
    np.testing.assert_allclose(large, GOLDENS[f'{key}/cam/{size}'], atol=1e-4)


def mini_config(clip, vocabulary=VOCABULARY, background_index=0, decoder=None, test_cfg=None, **head):
    """A model with the small CLIP."""
    model = Config.fromfile(ROOT / 'configs' / '_base_' / 'models' / 'cliper.py').model.to_dict()
    model['clip'] = clip
    model['backbone']['decoder'].update(decoder or {})
    model['decode_head'].update(templates='simple', vocabulary=vocabulary, background_index=background_index, **head)
    model['test_cfg'].update(test_cfg or {})
    return model


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
def test_labels_against_loops(mini_clip, background, min_max, least):
    words = ['person', 'cat', 'dog', 'train']
    words.insert(background, ['sky', 'wall'])
    config = mini_config(mini_clip, words, background, test_cfg=dict(prob_thd=least), score_thd=0.6, min_max=min_max)
    model = MODELS.build(config).eval()
    torch.manual_seed(0)
    patches = torch.rand(6, 6, 8) ** 3 * torch.tensor([0.9, 0.9, 1.3, 0.5, 0.9, 0.7])[:, None, None]
    patches[~model.decode_head.foreground] = 0
    image, sample = torch.zeros(3, 6, 8), SegDataSample(metainfo=dict(ori_shape=(24, 32)))
    maps = F.interpolate(patches[None], (24, 32), mode='bilinear')[0]
    rows, columns = image_axes((6, 8), sample.metainfo)
    scores = PixelScores(patches.transpose(0, 1), axis_matrix(rows, None, 6), axis_matrix(columns, None, 8))
    labels = model.label(scores, image, sample).pred_sem_seg.data[0].numpy()
    foreground = model.decode_head.foreground.numpy()
    expected = label_by_hand(
        maps.numpy()[foreground], patches.amax(dim=(1, 2)).numpy()[foreground], 0.6, least or 0, min_max
    )
    names = np.array([background, *[i for i in range(5) if i != background]])
    assert (labels == names[expected]).all()
    assert len(np.unique(labels)) >= 2 and (background in labels) == (least is not None)


def test_where_no_class_is_in_the_image_all_is_background(mini_clip):
    config = mini_config(mini_clip, ['cat', ['sky', 'wall'], 'dog'], 1, score_thd=1)
    model = MODELS.build(config).eval()
    sample = SegDataSample(metainfo=dict(ori_shape=(5, 4)))
    patches = torch.tensor([0.9, 0, 0, 0.8])[:, None].expand(5, 4, 4)
    model.label(PixelScores(patches, torch.eye(5), torch.eye(4)), torch.zeros(3, 5, 4), sample)
    assert sample.pred_sem_seg.data.unique().tolist() == [1]


@pytest.mark.parametrize('crop_size', [None, 64])
def test_images_do_not_look_at_each_other(mini_clip, crop_size):
    model = MODELS.build(mini_config(mini_clip, decoder=dict(crop_size=crop_size, stride=48))).eval()
    images = torch.randn(2, 3, 112, 144)
    with torch.no_grad():
        together = model._forward(images)
        alone = torch.cat([model._forward(image[None]) for image in images])
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=0)
    assert together.shape == (2, 7, 7, 9) and (together[0] - together[1]).abs().max() > 1e-3


def test_windows_one_after_the_other(mini_clip):
    model = MODELS.build(mini_config(mini_clip, decoder=dict(crop_size=70, stride=50))).eval()
    backbone, image = model.backbone, torch.randn(1, 3, 112, 150)  # windows of 4 patches, 3 between them, in 7 x 9
    layers, graph, seen = torch.zeros(3, 7, 9, 64), torch.zeros(7, 9, 7, 9), torch.zeros(7, 9)
    pairs = torch.zeros(7, 9, 7, 9)
    with torch.no_grad():
        ours = model.encode(image).layers
        for top in (0, 3):
            for left in (0, 3, 5):
                crop = image[:, :, 16 * top : 16 * top + 64, 16 * left : 16 * left + 64]
                tokens, affinity = backbone.decoder._fuse(backbone.tower, backbone.record(crop))
                place = np.s_[top : top + 4, left : left + 4]
                layers[(slice(None), *place)] += F.normalize(tokens[0, :, 1:], dim=-1).view(3, 4, 4, 64)
                graph[(*place, *place)] += affinity.view(4, 4, 4, 4)
                seen[place] += 1
                pairs[(*place, *place)] += 1
    graph = (graph / (pairs + 1e-5)).view(63, 63)
    mean = (layers / seen[..., None]).flatten(1, 2)
    expected = torch.einsum('ij,kid->kjd', graph / graph.sum(1, keepdim=True), mean)
    assert ours.shape == (1, 2, 3, 63, 64)
    torch.testing.assert_close(ours[0, 1], expected, atol=1e-5, rtol=0)


def test_an_image_smaller_than_a_window(mini_clip):
    model = MODELS.build(mini_config(mini_clip, decoder=dict(crop_size=224))).eval()
    with torch.no_grad():
        (first, second) = model.encode(torch.randn(1, 3, 48, 64)).layers[0]
    assert first.shape == second.shape == (3, 12, 64) and second.isfinite().all()


def test_its_attention_in_another_decoder(mini_clip):
    """The formula of the map, written out, in a decoder that knows nothing of layers."""
    decoder = dict(type='LastBlock', attention=dict(type='EarlyLayerAttention'))
    backbone = MODELS.build(dict(type='CLIPVisionTransformer', clip=mini_clip, decoder=decoder))
    images = torch.randn(2, 3, 48, 64)
    with torch.no_grad():
        memory = backbone.record(images)
        ours = backbone.decoder.attention.weights(backbone.tower.block_input(3, memory))
        inputs = [backbone.tower.block_input(number, memory) for number in (1, 2)]
        for image in range(2):
            for head in range(2):
                a = 0
                for b in inputs:
                    products = np.exp(b.q[image, head].numpy() @ b.k[image, head].numpy().T / 8)
                    a = a + products / products.sum(1, keepdims=True)
                for _ in range(3):
                    a = a / a.sum(0)
                    a = a / a.sum(1)[:, None]
                cut = (a + a.T) / 2
                cut = np.maximum(cut - cut.mean(0), 0)
                np.testing.assert_allclose(ours[image, head], cut / cut.sum(1)[:, None], atol=1e-5)
        assert backbone(images)[0].shape == (2, 64, 3, 4)


@pytest.mark.parametrize('layer', [3, -4])
def test_a_layer_that_is_none(mini_clip, layer):
    model = MODELS.build(mini_config(mini_clip, layer=layer))
    with pytest.raises(ConfigError, match=rf'layer is {layer}, but the decoder gives 3 layers: 0 to 2, or -3 to -1'):
        model._forward(torch.randn(1, 3, 48, 48))


def test_a_decoder_without_layers_is_refused(mini_clip):
    config = mini_config(mini_clip)
    config['backbone']['decoder'] = dict(type='LastBlock', attention=dict(type='VanillaSelfAttention'))
    with pytest.raises(ConfigError, match=r"decoder=dict\(type='EarlyLayerFusion'"):
        MODELS.build(config)._forward(torch.randn(1, 3, 48, 48))


def test_the_cost_of_windows_is_counted():
    config = Config.fromfile(ROOT / 'configs' / 'sclip_voc21.py')
    config.model = Config.fromfile(ROOT / 'configs' / '_base_' / 'models' / 'cliper.py').model
    config.model.decode_head.vocabulary = 'voc21'
    whole = count(config, (375, 500))
    config.model.backbone.decoder.crop_size = 224
    # Six windows of 224 pixels in 336 x 448: those of SCLIP.
    assert whole.per_image + 6 * 17.5 < count(config, (375, 500)).per_image < whole.per_image + 6 * 35
