"""Attention strategies: what attends to what inside a block. One strategy a file."""

from .base import Attention, BlockInput, Feedback
from .csa import CorrelativeSelfAttention
from .earlier import EarlierAttention
from .identity import IdentityAttention
from .local import LocalSelfAttention
from .projections import Projection
from .sharpened import SharpenedSelfAttention
from .vanilla import VanillaSelfAttention

__all__ = [
    'Attention',
    'BlockInput',
    'CorrelativeSelfAttention',
    'EarlierAttention',
    'Feedback',
    'IdentityAttention',
    'LocalSelfAttention',
    'Projection',
    'SharpenedSelfAttention',
    'VanillaSelfAttention',
]
