"""NACLIP: its attentions against the official outputs, and against their formulas written out."""

import math

import numpy as np
import pytest
import torch
from mmseg.registry import MODELS

from mmseg_sclip.models import BlockInput
from mmseg_sclip.models.methods.naclip import gaussian_prior

SIZES = [(224, 224), (160, 224), (336, 448)]
ATTENTIONS = {
    'naclip': {},
    'kk': dict(_delete_=True, type='CorrelativeSelfAttention', projections='k'),
    'nonly': dict(type='NeighbourPriorAttention'),
    'vanilla': dict(_delete_=True, type='VanillaSelfAttention'),
}
KEPT = {'backbone.decoder.residual': True, 'backbone.decoder.ffn': True}


@pytest.mark.parametrize(
    'block, name', [*(('reduced', name) for name in ATTENTIONS), *(('vanilla', n) for n in ('naclip', 'kk', 'vanilla'))]
)
def test_tokens(build_method, family, pixels, thinned, device, block, name):
    options = {'backbone.decoder.attention': ATTENTIONS[name], **(KEPT if block == 'vanilla' else {})}
    model = build_method('naclip', options).to(device)
    for size in SIZES:
        with torch.no_grad():
            tokens = model.encode(pixels(*size)[None].to(device)).patches[0]
        theirs = family[f'naclip/{block}/{name}/{size[0]}x{size[1]}']
        np.testing.assert_allclose(thinned(tokens, size), theirs, atol=5e-5)


def naive_gaussian(grid, std):
    """One pair of patches at a time, the class token first."""
    places = [(row, column) for row in range(grid[0]) for column in range(grid[1])]
    prior = np.zeros((1 + len(places),) * 2)
    for i, a in enumerate(places):
        for j, b in enumerate(places):
            prior[1 + i, 1 + j] = math.exp(-((a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2) / (2 * std**2))
    return prior


def test_each_grid_and_width_has_a_prior_of_its_own():
    cpu = torch.device('cpu')
    for grid in [(2, 3), (3, 2), (1, 6), (2, 3)]:
        for std in (5.0, 0.7):
            np.testing.assert_allclose(gaussian_prior(grid, 1, std, cpu), naive_gaussian(grid, std), atol=1e-7)
    assert gaussian_prior((2, 3), 1, 5.0, cpu, torch.float64).dtype == torch.float64


@pytest.fixture
def block():
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 2, 2, 7, 4, dtype=torch.float64)
    q[1] *= 3  # the two images of the batch have vectors of other lengths
    return BlockInput(q, k, v, torch.randn(2, 7, 8, dtype=torch.float64), (2, 3), 1, 0.5)


def softmax(logits):
    return np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)


@pytest.mark.parametrize('std', [5.0, 1.5])
def test_weights_and_values(block, std):
    prior = naive_gaussian((2, 3), std)
    both = dict(NeighbourAttention=[], NeighbourPriorAttention=[])
    for q, k in zip(block.q.numpy(), block.k.numpy(), strict=True):
        both['NeighbourAttention'].append([softmax(0.5 * keys @ keys.T + prior) for keys in k])
        lengths = [np.linalg.norm(a) * np.linalg.norm(b) for head in (0, 1) for a in q[head] for b in k[head]]
        both['NeighbourPriorAttention'].append([softmax(0.5 * np.mean(lengths) * prior)])
    for name, expected in both.items():
        attention = MODELS.build(dict(type=name, std=std))
        for _ in range(2):  # the second time with the prior that is kept
            np.testing.assert_allclose(attention.weights(block), expected, atol=1e-6)
            np.testing.assert_allclose(attention.attend(block), np.array(expected) @ block.v.numpy(), atol=1e-6)


def test_a_prior_made_in_inference_mode_serves_a_training(block):
    attention = MODELS.build(dict(type='NeighbourAttention', std=2.25))
    with torch.inference_mode():
        attention.attend(block)
    block.k.requires_grad_()
    attention.attend(block).sum().backward()
    assert block.k.grad.abs().max() > 0


def test_a_batch_equals_its_images_one_by_one(build_method, pixels):
    model = build_method('naclip', {'backbone.decoder.attention.type': 'NeighbourPriorAttention'})
    images = torch.stack([pixels(96, 160), pixels(96, 160, 7)])
    with torch.no_grad():
        together = model.encode(images).patches
        alone = [model.encode(image[None]).patches[0] for image in images]
    torch.testing.assert_close(together, torch.stack(alone), atol=1e-5, rtol=0)
