"""SC-CLIP: the official outputs, and a second implementation with loops over patches, on any grid."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmseg.registry import MODELS

from mmseg_sclip.errors import ConfigError
from mmseg_sclip.models.methods.sc_clip.outliers import local_outlier_scores
from mmseg_sclip.visual.attention import attention_maps
from mmseg_sclip.visual.bound_attention import bind_attention

ROOT = Path(__file__).resolve().parents[2]
DECODER = 'backbone.decoder'


@pytest.mark.parametrize('size', [(224, 224), (336, 336)], ids=str)
def test_official_outputs(build_method, family, pixels, thinned, device, size):
    model = build_method('sc_clip').to(device)
    images = pixels(*size)[None].to(device)
    name = f'{size[0]}x{size[1]}'
    with torch.no_grad():
        memory = model.backbone.record(images)
        scores = local_outlier_scores(memory[11][:, 1:])
        outliers = model.backbone.decoder.attention.outliers(memory)
        tokens = model.encode(images)
    np.testing.assert_allclose(scores[0].cpu().numpy(), family[f'sc_clip/lof/{name}'], atol=1e-4)
    assert outliers[0].nonzero().flatten().tolist() == family[f'sc_clip/outliers/{name}'].tolist()
    np.testing.assert_allclose(thinned(tokens.patches[0], size), family[f'sc_clip/{name}'], atol=1e-4)
    assert tokens.cls is None


def softmax(logits):
    """Over the last axis."""
    exp = np.exp(logits - logits.max(-1, keepdims=True))
    return exp / exp.sum(-1, keepdims=True)


def layer_norm(module, x):
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + module.eps) * double(
        module.weight
    ) + double(module.bias)


def double(tensor):
    return tensor.detach().double().numpy()


def cosines(x):
    lengths = np.linalg.norm(x, axis=1)
    return x @ x.T / np.outer(lengths, lengths)


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


def naive(tower, memory, image, middle, early, levels, threshold, rho, neighbours=30):
    """Tokens (n, D) of one image of a record, in float64."""
    outputs = {number: double(output[image]) for number, output in memory.items()}
    penultimate = outputs[tower.depth - 1]
    x = penultimate[1:]
    squared = ((x[:, None] - x[None]) ** 2).sum(-1)
    order = [[j for j in np.argsort(row) if j != i][:neighbours] for i, row in enumerate(squared)]
    reach = np.array([squared[i, near[-1]] for i, near in enumerate(order)])
    scores = np.array([np.mean([reach[i] / reach[j] for j in near]) for i, near in enumerate(order)])
    outliers = np.flatnonzero(scores > np.quantile(scores, 0.95)).tolist()
    similarity = cosines(repaired(outputs[middle][1:], outliers, memory.grid))
    x = averaged(similarity, repaired(x, outliers, memory.grid), threshold)
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


@pytest.mark.parametrize(
    'options, values',
    [
        ({}, (9, 4, range(4, 11), 0.4, 0.3)),
        (
            {
                f'{DECODER}.attention.affinity_block': -6,
                f'{DECODER}.smoothing_block': 2,
                f'{DECODER}.levels': (5, -2),
                f'{DECODER}.threshold': 0.6,
                f'{DECODER}.cls_weight': 0.1,
            },
            (7, 2, range(5, 12), 0.6, 0.1),
        ),
    ],
)
def test_a_batch_of_wide_windows(build_method, pixels, options, values):
    model = build_method('sc_clip', options)
    images = torch.stack([pixels(96, 160), pixels(96, 160, offset=1)])
    with torch.no_grad():
        memory = model.backbone.record(images)
        tokens = model.encode(images).patches
    for image, ours in enumerate(tokens):
        theirs = naive(model.backbone.tower, memory, image, *values)
        np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_the_map_is_what_the_last_block_does(build_method, pixels):
    model = build_method('sc_clip')
    decoder, tower = model.backbone.decoder, model.backbone.tower
    with torch.no_grad():
        memory = model.backbone.record(torch.stack([pixels(96, 160), pixels(96, 160, offset=1)]))
        b = decoder.block_input(tower, 12, memory)
        weights = decoder.attention.weights(b)
        shared = decoder.attention.shared(decoder.attention.affinity(memory, decoder.attention.outliers(memory)))
        attended = decoder.attention.attend_patches(b, shared, decoder.attention.streams)
    assert weights.shape == (2, tower.heads, 61, 61)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, tower.heads, 61))
    torch.testing.assert_close((weights @ b.v)[:, :, 1:], attended, atol=1e-5, rtol=0)
    torch.testing.assert_close(decoder.attention.attend(b), weights @ b.v)
    assert not weights[:, :, 1:, 0].any()
    # What the block sees are the repaired and averaged patches, and in other blocks the recorded stream.
    recorded = tower.block_input(12, memory)
    assert torch.equal(b.x[:, 0], recorded.x[:, 0])
    assert (b.x - recorded.x).abs().max() > 0.01
    assert torch.equal(decoder.block_input(tower, 11, memory).x, tower.block_input(11, memory).x)


def test_nearly_equal_patches_attend_to_themselves_at_least(build_method):
    attention = build_method('sc_clip').backbone.decoder.attention
    affinity = torch.ones(1, 5, 5)
    affinity[0, 0] = affinity[0, :, 0] = 1 - 2e-7  # a row of cosines below the mean, its own by rounding
    assert attention.shared(affinity)[0, 0].tolist() == [1, 0, 0, 0, 0]


def test_a_window_with_too_few_patches(build_method, pixels):
    with pytest.raises(ConfigError, match='only 30 patches; at least 31'):
        build_method('sc_clip').encode(pixels(80, 96)[None])


def test_the_preset_of_the_large_model(mini_json, tmp_path):
    description = json.loads(mini_json.read_text())
    description['vision_cfg']['layers'] = 24
    (tmp_path / 'large.json').write_text(json.dumps(description))
    config = Config.fromfile(ROOT / 'configs' / '_base_' / 'models' / 'sc_clip_l14.py').model
    assert config.clip.model_name == 'ViT-L-14-quickgelu'
    config.clip = dict(model_name=str(tmp_path / 'large.json'), pretrained=None)
    config.decode_head.vocabulary = ['cat', 'dog']
    decoder = MODELS.build(config).backbone.decoder
    # The author's numbers count the 24 blocks from 0: 16, 6, 8 to before 19; outliers are sought in 22.
    assert decoder.needs == {23, 17, 7, *range(9, 20)}
    assert decoder.cls_weight == 0.1


def test_low_precision(build_method, pixels, deep_clip):
    images = pixels(96, 160)[None]
    with torch.no_grad():
        exact = build_method('sc_clip').encode(images).patches
        rough = build_method('sc_clip', clip={**deep_clip, 'precision': 'bf16'}).encode(images).patches
    assert rough.dtype == torch.bfloat16
    assert torch.cosine_similarity(rough.float(), exact, dim=-1).min() > 0.98


def test_pictures_show_what_the_last_block_sees(build_method, pixels):
    model, image = build_method('sc_clip'), pixels(96, 160)
    attentions = [bind_attention(model, name) for name in ('config', 'VanillaSelfAttention')]
    maps = attention_maps(model, image, [(40, 20)], attentions, layers=(-1, 5), mode='whole')
    tower, decoder = model.backbone.tower, model.backbone.decoder
    with torch.no_grad():
        memory = tower.record(image[None], range(12))
        inputs = [decoder.block_input(tower, 12, memory), tower.block_input(5, memory)]
        expected = [decoder.attention.weights(b) for b in inputs]
        b = tower.block_input(12, memory)
        expected.append((b.q @ b.k.transpose(-1, -2) * b.scale).softmax(-1))
    # The patch under the point is the third of the second row, so its token comes after the class token and 12 others.
    for row, weights in zip(maps.rows, expected, strict=False):
        torch.testing.assert_close(row.weights[0], weights[0].mean(0)[13, 1:].view(6, 10))
