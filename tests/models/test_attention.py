"""Attention strategies against a second implementation, written out per head and per token."""

from types import MethodType, SimpleNamespace

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


def naive_map(block, pairs, tau=DIM**0.5):
    """The sum over `pairs` of softmax(a b^T / tau), one row at a time."""
    total = np.zeros((2, HEADS, 7, 7))
    for image in range(2):
        for head in range(HEADS):
            for first, second in pairs:
                a, b = getattr(block, first)[image, head].numpy(), getattr(block, second)[image, head].numpy()
                for i in range(7):
                    row = [sum(a[i, c] * b[j, c] for c in range(DIM)) / tau for j in range(7)]
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
@pytest.mark.parametrize('more, factor, tau', [({}, 1, 2), (dict(tau=5.0), 1, 5), (dict(gain=3), 3, 2)], ids=str)
@pytest.mark.parametrize('grad', [True, False])
def test_weights_and_values(block, config, pairs, more, factor, tau, grad):
    if config['type'] == 'VanillaSelfAttention':
        more, factor, tau, reductions = {}, 1, 2, [{}]
    else:
        reductions = [dict(reduction='sum'), dict(reduction='mean')]
    expected = factor * naive_map(block, pairs, tau)
    for reduction in reductions:
        attention = MODELS.build({**config, **more, **reduction})
        scaled = expected / len(pairs) if reduction == dict(reduction='mean') else expected
        with torch.set_grad_enabled(grad):
            np.testing.assert_allclose(attention.weights(block).numpy(), scaled, atol=1e-12)
            np.testing.assert_allclose(attention.attend(block).numpy(), scaled @ block.v.numpy(), atol=1e-12)


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
    expected = sum((3 * p @ p.transpose(-1, -2) * block.scale).softmax(-1) for p in (block.q, block.k))
    csa = MODELS.build(dict(type='CorrelativeSelfAttention'))
    torch.testing.assert_close(csa.weights(block, mix=lambda term: 3 * term), expected)


class Tower:
    """What a strategy may ask of a tower when it is bound."""

    depth, width, heads = 3, HEADS * DIM, HEADS

    def __init__(self):
        torch.manual_seed(1)
        self.attn = torch.nn.MultiheadAttention(self.width, HEADS, dtype=torch.float64)

    def block(self, number):
        assert number == self.depth
        return self

    def block_number(self, number):
        return number + self.depth + 1 if number < 0 else number


def bound(**config):
    attention = MODELS.build(config)
    attention.bind(Tower())
    return attention


def naive_correlation(x, matrices, tau):
    """softmax((x W)(x W)^T / tau) of each head and matrix, one entry at a time."""
    maps = []
    for matrix in matrices:
        out = np.zeros((2, HEADS, 7, 7))
        for image in range(2):
            projected = x[image].numpy() @ matrix
            for head in range(HEADS):
                part = projected[:, head * DIM : (head + 1) * DIM]
                for i in range(7):
                    out[image, head, i] = softmax([part[i] @ part[j] / tau for j in range(7)])
        maps.append(out)
    return maps


@pytest.mark.parametrize('tau', [None, 3.0])
@pytest.mark.parametrize('reduction', ['sum', 'mean'])
@pytest.mark.parametrize(
    'entry', ['identity', 'random', dict(type='RandomProjection', count=3, seed=5), 'learned'], ids=str
)
def test_projections_of_the_blocks_input(block, entry, reduction, tau):
    attention = bound(type='CorrelativeSelfAttention', projections=[entry], reduction=reduction, tau=tau)
    (projection,) = attention.projections
    if entry == 'identity':
        matrices = [np.eye(HEADS * DIM)]
    elif entry == 'learned':
        matrices = [Tower().attn.in_proj_weight[: HEADS * DIM].detach().numpy().T]
    else:
        matrices = projection.matrices.double().numpy()
    maps = naive_correlation(block.x, matrices, tau or np.sqrt(DIM))
    expected = sum(maps) / (len(maps) if reduction == 'mean' else 1)
    np.testing.assert_allclose(attention.weights(block).detach().numpy(), expected, atol=1e-6)
    np.testing.assert_allclose(attention.attend(block).detach().numpy(), expected @ block.v.numpy(), atol=1e-5)


def test_random_matrices_follow_their_seed():
    first, again, other = (
        bound(type='CorrelativeSelfAttention', projections=dict(type='RandomProjection', count=2, seed=seed))
        for seed in (0, 0, 1)
    )
    a, b, c = (attention.projections[0].matrices for attention in (first, again, other))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    assert not torch.equal(a[0], a[1])
    assert not first.state_dict()  # made anew from the seed
    wide = MODELS.build(dict(type='RandomProjection', count=4))
    wide.bind(SimpleNamespace(width=256))
    assert wide.matrices.square().mean().item() == pytest.approx(
        1 / 256, rel=0.02
    )  # keeps the size of what it projects


def test_the_mean_of_q_and_k_is_half_their_sum(block):
    total, mean = (bound(type='CorrelativeSelfAttention', reduction=how) for how in ('sum', 'mean'))
    torch.testing.assert_close(mean.weights(block), total.weights(block) / 2)


@pytest.mark.parametrize('init', ['q', 'identity'])
def test_the_learned_matrix_is_the_only_parameter(init):
    attention = bound(type='CorrelativeSelfAttention', projections=[dict(type='LearnedProjection', init=init)])
    ((name, parameter),) = attention.named_parameters()
    assert (name, parameter.shape, parameter.requires_grad) == ('projections.0.matrix', (8, 8), True)
    if init == 'identity':
        assert torch.equal(parameter.detach(), torch.eye(8))


def test_window_of_one_is_maskclip(block):
    local, identity = bound(type='LocalSelfAttention', window=1), bound(type='IdentityAttention')
    assert torch.equal(local.weights(block), identity.weights(block).expand(-1, HEADS, -1, -1))
    assert torch.equal(local.attend(block), block.v)


@pytest.mark.parametrize('window', [1, 3, 5])
def test_local_attention_token_by_token(block, window):
    expected = np.zeros((2, HEADS, 7, 7))
    expected[..., 0, 0] = 1  # the class token sees itself
    places = [(row, col) for row in range(GRID[0]) for col in range(GRID[1])]
    for image in range(2):
        for head in range(HEADS):
            q, k = block.q[image, head].numpy(), block.k[image, head].numpy()
            for i, (row, col) in enumerate(places, 1):
                near = [j for j, (r, c) in enumerate(places, 1) if abs(r - row) <= window // 2 >= abs(c - col)]
                expected[image, head, i, near] = softmax([q[i] @ k[j] / np.sqrt(DIM) for j in near])
    np.testing.assert_allclose(bound(type='LocalSelfAttention', window=window).weights(block), expected, atol=1e-12)


def test_sharpening(block):
    vanilla = bound(type='VanillaSelfAttention')
    same, sharp = (bound(type='SharpenedSelfAttention', temperature=t) for t in (1, 3))
    torch.testing.assert_close(same.weights(block), vanilla.weights(block))
    torch.testing.assert_close(same.attend(block), vanilla.attend(block))
    expected = (3 * block.q @ block.k.transpose(-1, -2) / np.sqrt(DIM)).softmax(-1)
    torch.testing.assert_close(sharp.weights(block), expected)
    torch.testing.assert_close(sharp.attend(block), expected @ block.v)


@pytest.mark.parametrize('number, needs', [(1, {0}), (3, {2}), (-1, {2}), (-3, {0})])
def test_earlier_attention_asks_for_what_it_reads(block, number, needs):
    attention = bound(type='EarlierAttention', block=number)
    assert attention.needs == needs
    torch.manual_seed(3)
    source = BlockInput(*torch.randn(3, 2, HEADS, 7, DIM, dtype=torch.float64), block.x, GRID, 1, DIM**-0.5)
    asked = []
    block.lookup = lambda wanted: asked.append(wanted) or source
    np.testing.assert_allclose(attention.weights(block), naive_map(source, ['qk']), atol=1e-12)
    assert asked == [number]


@pytest.mark.parametrize('base', ['VanillaSelfAttention', 'CorrelativeSelfAttention', 'IdentityAttention'])
@pytest.mark.parametrize('what', ['terms', 'prior', 'weights'])
def test_what_a_subclass_changes_counts_in_attend_too(block, base, what):
    changes = dict(
        terms=lambda self, b: [b.k @ b.k.transpose(-1, -2)],
        prior=lambda self, b: 2 * torch.eye(7, dtype=torch.float64),
        weights=lambda self, b, mix=None: torch.full((2, HEADS, 7, 7), 0.5, dtype=torch.float64),
    )
    plain = MODELS.build(dict(type=base))
    if base == 'IdentityAttention' and what != 'weights':
        return  # it has no terms
    changed = type('Mixin', (), {what: changes[what]})
    mine = [
        type('Mine', (MODELS.get(base),), {what: changes[what]})(),
        type('Mixed', (changed, MODELS.get(base)), {})(),
        type('Child', (type('Parent', (MODELS.get(base),), {what: changes[what]}),), {'other': 1})(),
        MODELS.build(dict(type=base)),
    ]
    setattr(mine[-1], what, MethodType(changes[what], mine[-1]))
    for each in mine:
        with torch.no_grad():
            torch.testing.assert_close(each.attend(block), each.weights(block) @ block.v)
        assert (each.attend(block) - plain.attend(block)).abs().max() > 0.01


def test_a_subclass_may_bring_an_attend_of_its_own(block):
    class Own(MODELS.get('VanillaSelfAttention')):
        def terms(self, b):
            return [b.k @ b.k.transpose(-1, -2)]

        def attend(self, b):
            return b.v * 2

    assert torch.equal(Own().attend(block), block.v * 2)


@pytest.mark.parametrize(
    'terms, words',
    [
        (lambda b: b.q @ b.k.transpose(-1, -2), 'must return a list of tensors, .* but returned Tensor'),
        (lambda b: [], 'returned an empty list'),
        (lambda b: [torch.zeros(HEADS, 7, 7)], r'returned a tensor \(2, 7, 7\)'),
        (lambda b: [torch.zeros(2, 3, 7, 7)], r'returned a tensor \(2, 3, 7, 7\)'),
    ],
)
def test_terms_of_a_wrong_form_are_refused(block, terms, words):
    mine = type('Mine', (MODELS.get('CorrelativeSelfAttention'),), {'terms': lambda self, b: terms(b)})()
    with pytest.raises((TypeError, ValueError), match=words):
        mine.attend(block)


def test_an_attention_without_terms_says_what_is_missing(block):
    from mmseg_sclip.models import Attention

    with pytest.raises(NotImplementedError, match='must define terms'):
        Attention().weights(block)


def test_earlier_needs_a_tower(block):
    with pytest.raises(LookupError, match='without a tower'):
        block.earlier(1)
