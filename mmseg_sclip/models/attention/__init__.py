"""The seam of the attentions, and those that several methods share: what attends to what inside a block."""

from ..record import BlockInput, Feedback
from .base import Attention, ProductAttention
from .companion_grid import CompanionAttention
from .csa import CorrelativeSelfAttention
from .identity import IdentityAttention
from .projections import Projection
from .proxy import ProxyAttention
from .vanilla import VanillaSelfAttention

__all__ = [
    'Attention',
    'BlockInput',
    'CompanionAttention',
    'CorrelativeSelfAttention',
    'Feedback',
    'IdentityAttention',
    'ProductAttention',
    'Projection',
    'ProxyAttention',
    'VanillaSelfAttention',
]
