"""GEM ("Grounding Everything", CVPR 2024)."""

from .attention import SelfSelfAttention
from .background import ForegroundOnly

__all__ = ['ForegroundOnly', 'SelfSelfAttention']
