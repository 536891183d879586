"""Attention strategies against a second implementation, written out per head and per token."""

import numpy as np
import pytest
import torch
from mmseg.registry import MODELS

from mmseg_sclip.models import BlockInput

HEADS, DIM, GRID = 2, 4, (2, 3)


@pytest.fixture
def block():
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 2, HEADS, 7, DIM, dtype=torch.float64)
    return BlockInput(q, k, v, torch.randn(2, 7, HEADS * DIM, dtype=torch.float64), GRID, 1, DIM**-0.5)


def softmax(row):
    exponents = [np.exp(value - max(row)) for value in row]
    return [value / sum(exponents) for value in exponents]


def naive_map(block, pairs):
    """The sum over `pairs` of softmax(a b^T / sqrt(d)), one row at a time."""
    total = np.zeros((2, HEADS, 7, 7))
    for image in range(2):
        for head in range(HEADS):
            for first, second in pairs:
                a, b = getattr(block, first)[image, head].numpy(), getattr(block, second)[image, head].numpy()
                for i in range(7):
                    row = [sum(a[i, c] * b[j, c] for c in range(DIM)) / np.sqrt(DIM) for j in range(7)]
                    total[image, head, i] += softmax(row)
    return total


@pytest.mark.parametrize(
    'config, pairs',
    [
        (dict(type='CorrelativeSelfAttention'), ['qq', 'kk']),
        (dict(type='CorrelativeSelfAttention', projections=('q',)), ['qq']),
        (dict(type='CorrelativeSelfAttention', projections='v'), ['vv']),
        (dict(type='CorrelativeSelfAttention', projections=['q', 'k', 'v']), ['qq', 'kk', 'vv']),
        (dict(type='VanillaSelfAttention'), ['qk']),
    ],
    ids=str,
)
def test_weights_and_values(block, config, pairs):
    attention = MODELS.build(config)
    expected = naive_map(block, pairs)
    np.testing.assert_allclose(attention.weights(block).numpy(), expected, atol=1e-12)
    np.testing.assert_allclose(attention.attend(block).numpy(), expected @ block.v.numpy(), atol=1e-12)


def test_identity_keeps_every_value(block):
    attention = MODELS.build(dict(type='IdentityAttention'))
    assert torch.equal(attention.attend(block), block.v)
    assert torch.equal(attention.weights(block), torch.eye(7, dtype=torch.float64).expand(2, 1, 7, 7))


def test_rows_of_csa_sum_to_two_and_its_logits_are_symmetric(block):
    attention = MODELS.build(dict(type='CorrelativeSelfAttention'))
    torch.testing.assert_close(attention.weights(block).sum(-1), torch.full((2, HEADS, 7), 2.0, dtype=torch.float64))
    terms = attention.terms(block)
    assert len(terms) == 2
    assert all(torch.allclose(term, term.transpose(-1, -2)) for term in terms)


def test_mix_comes_before_the_prior_and_the_prior_last(block):
    class WithPrior(type(MODELS.build(dict(type='VanillaSelfAttention')))):
        def prior(self, b):
            return torch.eye(7, dtype=torch.float64)

    logits = block.q @ block.k.transpose(-1, -2) * block.scale
    expected = (3 * logits + torch.eye(7, dtype=torch.float64)).softmax(-1)
    torch.testing.assert_close(WithPrior().weights(block, mix=lambda term: 3 * term), expected)


@pytest.mark.parametrize('projections', [(), ('q', 'q'), ('x',), 'qk'])
def test_wrong_projections_are_refused(projections):
    with pytest.raises(ValueError, match='projections'):
        MODELS.build(dict(type='CorrelativeSelfAttention', projections=projections))


def test_an_attention_without_terms_says_what_is_missing(block):
    from mmseg_sclip.models import Attention

    with pytest.raises(NotImplementedError, match='must define terms'):
        Attention().weights(block)


def test_earlier_needs_a_tower(block):
    with pytest.raises(LookupError, match='without a tower'):
        block.earlier(1)
