"""Attention strategies against a second implementation in NumPy, and what a strategy of a user's own may change."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers import build, softmax
from mmseg.registry import MODELS

from mmseg_sclip.errors import ConfigError
from mmseg_sclip.models import BlockInput

HEADS, DIM = 2, 4
EYE = torch.eye(7, dtype=torch.float64)
CSA, VANILLA = 'CorrelativeSelfAttention', 'VanillaSelfAttention'


@pytest.fixture
def block():
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 2, HEADS, 7, DIM, dtype=torch.float64)
    record = SimpleNamespace(tower=SimpleNamespace(prefix=1), grid=(2, 3))
    return BlockInput(q, k, v, torch.randn(2, 7, HEADS * DIM, dtype=torch.float64), DIM**-0.5, record)


class Tower:
    """What a strategy may ask of a tower when it is bound."""

    depth, width = 3, HEADS * DIM

    def __init__(self):
        self.weights = torch.randn(8, 8, generator=torch.Generator().manual_seed(1))

    def block_numbers(self, numbers):
        return frozenset(numbers)

    def query_weights(self, number):
        assert number == self.depth
        return self.weights


def bound(kind=CSA, **config):
    attention = MODELS.build(dict(type=kind, **config))
    attention.bind(Tower())
    return attention


def check(attention, block, expected):
    np.testing.assert_allclose(attention.weights(block).detach(), expected, atol=1e-6)
    for grad in (True, False):
        with torch.set_grad_enabled(grad):
            np.testing.assert_allclose(attention.attend(block).detach(), expected @ block.v.numpy(), atol=1e-5)


@pytest.mark.parametrize(
    'config, pairs, tau, factor',
    [
        (dict(), ['qq', 'kk'], 2, 1),
        (dict(reduction='mean'), ['qq', 'kk'], 2, 1 / 2),
        (dict(projections=('q',), tau=5.0), ['qq'], 5, 1),
        (dict(projections='v', gain=3), ['vv'], 2, 3),
        (dict(projections=['q', 'k', 'v'], reduction='mean', gain=3, tau=1), ['qq', 'kk', 'vv'], 1, 1),
        (dict(kind=VANILLA), ['qk'], 2, 1),
    ],
    ids=str,
)
def test_softmaxes_of_products(block, config, pairs, tau, factor):
    arrays = [[getattr(block, name).numpy() for name in pair] for pair in pairs]
    check(bound(**config), block, factor * sum(softmax(a @ b.swapaxes(2, 3) / tau) for a, b in arrays))


def test_identity_keeps_every_value(block):
    assert torch.equal(bound('IdentityAttention').attend(block), block.v)
    assert torch.equal(bound('IdentityAttention').weights(block), EYE.expand(2, 1, 7, 7))


@pytest.mark.parametrize(
    'entry', ['identity', 'random', dict(type='RandomProjection', count=3, seed=5), 'learned'], ids=str
)
@pytest.mark.parametrize('reduction, tau', [('sum', None), ('mean', 3.0)])
def test_projections_of_the_blocks_input(block, entry, reduction, tau):
    attention = bound(projections=[entry], reduction=reduction, tau=tau)
    matrices = dict(identity=[np.eye(8)], learned=[Tower().weights.numpy().T]).get(str(entry))
    matrices = attention.projections[0].matrices.double().numpy() if matrices is None else matrices
    maps = []
    for matrix in matrices:
        x = (block.x.numpy() @ matrix).reshape(2, 7, HEADS, DIM).swapaxes(1, 2)
        maps.append(softmax(x @ x.swapaxes(2, 3) / (tau or 2)))
    check(attention, block, sum(maps) / (len(maps) if reduction == 'mean' else 1))


def test_random_matrices_follow_their_seed_and_keep_the_size_of_what_they_project():
    first, again, other = (
        bound(projections=dict(type='RandomProjection', count=2, seed=seed)).projections[0] for seed in (0, 0, 1)
    )
    assert torch.equal(first.matrices, again.matrices)
    assert not torch.equal(first.matrices, other.matrices) and not torch.equal(*first.matrices)
    assert not first.state_dict()  # made anew from the seed
    wide = MODELS.build(dict(type='RandomProjection', count=4))
    wide.bind(SimpleNamespace(width=256, block_numbers=frozenset))
    assert wide.matrices.square().mean().item() == pytest.approx(1 / 256, rel=0.02)


@pytest.mark.parametrize('init', ['q', 'identity'])
def test_the_learned_matrix_is_the_only_parameter(init):
    ((name, parameter),) = bound(projections=[dict(type='LearnedProjection', init=init)]).named_parameters()
    assert (name, parameter.requires_grad) == ('projections.0.matrix', True)
    assert torch.equal(parameter.detach(), torch.eye(8) if init == 'identity' else Tower().weights.T)


def test_a_projection_without_training_says_so_once(source, monkeypatch):
    said, image = [], torch.randn(1, 3, 48, 48)
    monkeypatch.setattr('mmseg_sclip.models.attention.projections.print_log', lambda text, **_: said.append(text))
    loaded, trained, plain = (build(source, dict(type=CSA, projections=['learned'])) for _ in range(3))
    loaded.load_state_dict({'backbone.decoder.attention.projections.0.matrix': torch.eye(128)}, strict=False)
    for model in (loaded, trained.train()):
        model._forward(image)
        assert not said
    for _ in range(2):
        plain._forward(image)
        assert len(said) == 1 and 'still at its start' in said[0]


def test_mix_comes_before_the_prior_and_the_softmax_is_in_float32(block):
    class WithPrior(MODELS.get(VANILLA)):
        def prior(self, b):
            return EYE

    logits = block.q @ block.k.transpose(-1, -2) / 2
    mixed = WithPrior().weights(block, mix=lambda term: 3 * term)
    torch.testing.assert_close(mixed, (3 * logits + EYE).softmax(-1))
    expected = sum((3 * p @ p.transpose(-1, -2) / 2).softmax(-1) for p in (block.q, block.k))
    torch.testing.assert_close(bound().weights(block, mix=lambda term: 3 * term), expected)
    rough = BlockInput(*(value.bfloat16() for value in (block.q, block.k, block.v, block.x)), 0.5, block.record)
    weights = bound().weights(rough)
    assert weights.dtype == torch.float32 and bound().attend(rough).dtype == torch.bfloat16
    torch.testing.assert_close(weights.sum(-1), torch.full((2, HEADS, 7), 2.0), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    'base, what',
    [
        *((base, what) for base in (CSA, VANILLA) for what in ('terms', 'prior', 'weights')),
        ('IdentityAttention', 'weights'),
    ],
)
def test_what_a_subclass_changes_counts_in_attend_too(block, base, what):
    changes = dict(
        terms=lambda self, b: [b.k @ b.k.transpose(-1, -2)],
        prior=lambda self, b: 2 * EYE,
        weights=lambda self, b, mix=None: torch.full((2, HEADS, 7, 7), 0.5, dtype=torch.float64),
    )
    base, change = MODELS.get(base), {what: changes[what]}
    mine = type('Mine', (base,), change)
    for kind in (mine, type('Mixed', (type('Mixin', (), change), base), {}), type('Child', (mine,), {'other': 1})):
        torch.testing.assert_close(kind().attend(block), kind().weights(block) @ block.v)
        assert (kind().attend(block) - base().attend(block)).abs().max() > 0.01
    own = type('Own', (mine,), {**change, 'attend': lambda self, b: b.v * 2})  # its own attend is taken as it is
    assert torch.equal(own().attend(block), block.v * 2)


def test_terms_of_a_wrong_form_are_refused(block):
    for terms, words in (
        (lambda self, b: b.q @ b.k.transpose(-1, -2), 'must return a list of tensors, .* but returned Tensor'),
        (lambda self, b: [], 'returned an empty list'),
        (lambda self, b: [torch.zeros(HEADS, 7, 7)], r'returned a tensor \(2, 7, 7\)'),
        (lambda self, b: [torch.zeros(2, 3, 7, 7)], r'returned a tensor \(2, 3, 7, 7\)'),
    ):
        with pytest.raises(ConfigError, match=words):
            type('Mine', (MODELS.get(CSA),), {'terms': terms})().attend(block)
