"""NACLIP: its attentions against the official outputs, and against their formulas written out."""

import math

import numpy as np
import pytest
import torch
from helpers import softmax
from mmseg.registry import MODELS

from mmseg_sclip.models.methods.naclip import gaussian_prior

ATTENTIONS = {
    'naclip': {},
    'kk': dict(_delete_=True, type='CorrelativeSelfAttention', projections='k'),
    'nonly': dict(type='NeighbourPriorAttention'),
    'vanilla': dict(_delete_=True, type='VanillaSelfAttention'),
}
KEPT = {'backbone.decoder.residual': True, 'backbone.decoder.ffn': True}


@pytest.mark.parametrize('name', ATTENTIONS)
def test_tokens(build_method, family, check_tokens, device, name):
    for block in ('reduced', 'vanilla'):
        if (block, name) != ('vanilla', 'nonly'):
            options = {'backbone.decoder.attention': ATTENTIONS[name], **(KEPT if block == 'vanilla' else {})}
            check_tokens(build_method('naclip', options).to(device), family, f'naclip/{block}/{name}')


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
