"""SC-CLIP: the official outputs, and a second implementation with loops over patches, on any grid."""

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import softmax, unit, write_clip
from mmengine.config import Config
from mmseg.registry import MODELS

from mmseg_sclip.errors import ConfigError
from mmseg_sclip.models.methods.sc_clip.outliers import local_outlier_scores

ROOT = Path(__file__).resolve().parents[2]
DECODER = 'backbone.decoder'


@pytest.mark.parametrize('size', [(224, 224), (336, 336)], ids=str)
@torch.no_grad()
def test_official_outputs(build_method, family, pixels, thinned, device, size):
    model, name = build_method('sc_clip').to(device), f'{size[0]}x{size[1]}'
    images = pixels(*size)[None].to(device)
    record = model.backbone.record(images)
    scores = local_outlier_scores(record.patches(11))
    outliers = model.backbone.decoder.attention.outliers(record)
    tokens = model.encode(images)
    np.testing.assert_allclose(scores[0].cpu().numpy(), family[f'sc_clip/lof/{name}'], atol=1e-4)
    assert outliers[0].nonzero().flatten().tolist() == family[f'sc_clip/outliers/{name}'].tolist()
    np.testing.assert_allclose(thinned(tokens.patches[0], size), family[f'sc_clip/{name}'], atol=1e-4)
    assert tokens.cls is None


def double(tensor):
    return tensor.detach().double().numpy()


def layer_norm(module, x):
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + module.eps)
    return x * double(module.weight) + double(module.bias)


def cosines(x):
    return unit(x) @ unit(x).T


def repaired(x, outliers, grid):
    new = x.copy()
    for i in outliers:
        row, column = divmod(i, grid[1])
        near = [
            y * grid[1] + z
            for y in (row - 1, row, row + 1)
            for z in (column - 1, column, column + 1)
            if 0 <= y < grid[0] and 0 <= z < grid[1] and y * grid[1] + z not in outliers
        ]
        if near:
            new[i] = x[near].mean(0)
    return new


def averaged(similarity, x, threshold):
    weights = np.where(similarity < threshold, 0, similarity)
    return weights / (weights.sum(1, keepdims=True) + 1e-6) @ x


def lonely(x, neighbours, share):
    """The numbers of the tokens of an image that are farthest from others, in comparison with their neighbours."""
    squared = ((x[:, None] - x[None]) ** 2).sum(-1)
    order = [[j for j in np.argsort(row) if j != i][:neighbours] for i, row in enumerate(squared)]
    reach = np.array([squared[i, near[-1]] for i, near in enumerate(order)])
    scores = np.array([np.mean([reach[i] / reach[j] for j in near]) for i, near in enumerate(order)])
    return np.flatnonzero(scores > np.quantile(scores, 1 - share)).tolist()


def naive(record, image, middle, early, levels, threshold, rho):
    """Tokens (n, D) of one image of a record, in float64."""
    tower, grid = record.tower, record.grid
    outputs = {number: double(record[number][image]) for number in {middle, early, *levels, tower.depth - 1}}
    penultimate = outputs[tower.depth - 1]
    outliers = lonely(penultimate[1:], 30, 0.05)
    similarity = cosines(repaired(outputs[middle][1:], outliers, grid))
    x = averaged(similarity, repaired(penultimate[1:], outliers, grid), threshold)
    logits = 3 * (similarity - similarity.mean())
    shared = softmax(np.where(logits < 0, -np.inf, logits))
    block = tower.block(tower.depth)

    def attend(patches):
        qkv = layer_norm(block.ln_1, patches) @ double(block.attn.in_proj_weight).T + double(block.attn.in_proj_bias)
        _, k, v = (part.reshape(len(patches), tower.heads, -1) for part in np.split(qkv, 3, axis=1))
        heads = [
            (shared + softmax(k[:, head] @ k[:, head].T / np.sqrt(k.shape[2]))) / 2 @ v[:, head]
            for head in range(tower.heads)
        ]
        return np.concatenate(heads, 1) @ double(block.attn.out_proj.weight).T + double(block.attn.out_proj.bias)

    total = sum(outputs[number] for number in levels)
    smooth = cosines(outputs[early][1:])
    x = averaged(smooth, attend(x) + rho * penultimate[0], threshold)
    x = x + averaged(smooth, attend(total[1:]) + rho * total[0], threshold)
    return layer_norm(tower.visual.ln_post, x) @ double(tower.visual.proj)


OTHER = {'attention.affinity_block': -6, 'smoothing_block': 2, 'levels': (5, -2), 'threshold': 0.6, 'cls_weight': 0.1}


@pytest.mark.parametrize(
    'options, values', [({}, (9, 4, range(4, 11), 0.4, 0.3)), (OTHER, (7, 2, range(5, 12), 0.6, 0.1))], ids=len
)
@torch.no_grad()
def test_wide_windows(build_method, wide, options, values):
    model = build_method('sc_clip', {f'{DECODER}.{key}': value for key, value in options.items()})
    record = model.backbone.record(wide)
    for image, ours in enumerate(model.encode(wide).patches):
        np.testing.assert_allclose(ours, naive(record, image, *values), atol=1e-4)


@torch.no_grad()
def test_the_last_block_sees_repaired_and_averaged_patches(build_method, wide):
    backbone = build_method('sc_clip').backbone
    decoder, record = backbone.decoder, backbone.record(wide)
    b, recorded = decoder.block_input(12, record), record.block_input(12)
    assert torch.equal(b.x[:, 0], recorded.x[:, 0]) and (b.x - recorded.x).abs().max() > 0.01
    assert torch.equal(decoder.block_input(11, record).x, record.block_input(11).x)
    weights = decoder.attention.weights(b)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 2, 61))
    assert not weights[:, :, 1:, 0].any() and not weights[:, :, 0, 1:].any()


@torch.no_grad()
def test_outliers_and_affinities_stay_in_float32(build_method, wide):
    backbone = build_method('sc_clip').backbone
    attention, record = backbone.decoder.attention, backbone.record(wide)
    outliers = attention.outliers(record)
    affinity = attention.affinity(record, outliers)
    with torch.autocast('cpu', torch.bfloat16):
        assert torch.equal(attention.outliers(record), outliers)
        assert torch.equal(attention.affinity(record, outliers), affinity)


def test_nearly_equal_patches_attend_to_themselves_at_least(build_method):
    attention = build_method('sc_clip').backbone.decoder.attention
    affinity = torch.ones(1, 5, 5)
    affinity[0, 0] = affinity[0, :, 0] = 1 - 2e-7  # a row of cosines below the mean, its own by rounding
    assert attention.shared(affinity)[0, 0].tolist() == [1, 0, 0, 0, 0]


@pytest.mark.parametrize('kind', ['SelfCalibratedAttention', 'PurifiedAttention'])
def test_sharpness_and_threshold_of_the_config(record_of, kind):
    more = dict(threshold=0.7) if kind == 'PurifiedAttention' else {}
    attention = MODELS.build(dict(type=kind, sharpness=7.0, affinity_block=2, **more))
    tokens = torch.randn(2, 7, 4, generator=torch.Generator().manual_seed(0))
    affinity = attention.affinity(record_of((2, 3), {2: tokens}), torch.zeros(2, 6, dtype=torch.bool))
    shared = attention.shared(affinity.clone())
    for image in range(2):
        expected = cosines(double(tokens[image, 1:]))
        expected = np.where(expected < 0.7, 0, expected) if more else expected
        np.testing.assert_allclose(affinity[image], expected, atol=1e-6)
        logits = 7 * (expected - expected.mean())
        np.testing.assert_allclose(shared[image], softmax(np.where(logits < 0, -np.inf, logits)), atol=1e-5)


@pytest.mark.parametrize('kind', ['SelfCalibratedAttention', 'DensityOutliers'])
@torch.no_grad()
def test_neighbours_and_share_of_the_config(build_method, record_of, kind):
    share = 'share' if kind == 'DensityOutliers' else 'outlier_share'
    part = MODELS.build({'type': kind, share: 0.25, 'neighbours': 5})
    part.bind(build_method('sclip').backbone.tower)
    tokens = torch.randn(2, 21, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    record = record_of((4, 5), {11: tokens})
    found = part(record) if kind == 'DensityOutliers' else part.outliers(record)
    for image, ours in zip(tokens[:, 1:].numpy(), found, strict=True):
        assert ours.nonzero()[:, 0].tolist() == lonely(image, 5, 0.25) and sum(ours) == 5


def test_a_window_with_too_few_patches(build_method, pixels):
    with pytest.raises(ConfigError, match='only 30 patches; at least 31'):
        build_method('sc_clip').encode(pixels(80, 96)[None])


def test_the_preset_of_the_large_model(tmp_path):
    config = Config.fromfile(ROOT / 'configs' / '_base_' / 'models' / 'sc_clip_l14.py').model
    assert config.clip.model_name == 'ViT-L-14-quickgelu'
    config.clip = write_clip(tmp_path, layers=24, width=64)
    config.decode_head.vocabulary = ['cat', 'dog']
    decoder = MODELS.build(config).backbone.decoder
    # The author's numbers count the 24 blocks from 0: 16, 6, 8 to before 19; outliers are sought in 22.
    assert decoder.needs == {23, 17, 7, *range(9, 20)}
    assert decoder.cls_weight == 0.1
