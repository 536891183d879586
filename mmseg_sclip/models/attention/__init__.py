"""The seam of the attentions, and those that several methods share: what attends to what inside a block."""

from ..record import BlockInput, Feedback
from .base import Attention, ProductAttention
from .csa import CorrelativeSelfAttention
from .identity import IdentityAttention
from .projections import Projection
from .vanilla import VanillaSelfAttention

__all__ = [
    'Attention',
    'BlockInput',
    'CorrelativeSelfAttention',
    'Feedback',
    'IdentityAttention',
    'ProductAttention',
    'Projection',
    'VanillaSelfAttention',
]
