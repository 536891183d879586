"""SC-CLIP (arXiv 2411.15869)."""

from .attention import SelfCalibratedAttention
from .decoder import SelfCalibratedDecoder

__all__ = ['SelfCalibratedAttention', 'SelfCalibratedDecoder']
