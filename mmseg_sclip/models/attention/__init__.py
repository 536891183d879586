"""Attention strategies: what attends to what inside a block. One strategy a file."""

from .base import Attention, BlockInput, Feedback
from .csa import CorrelativeSelfAttention
from .identity import IdentityAttention
from .vanilla import VanillaSelfAttention

__all__ = [
    'Attention',
    'BlockInput',
    'CorrelativeSelfAttention',
    'Feedback',
    'IdentityAttention',
    'VanillaSelfAttention',
]
