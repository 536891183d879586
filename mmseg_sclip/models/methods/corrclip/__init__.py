"""CorrCLIP (ICCV 2025)."""

from .attention import RegionScopedAttention
from .correction import RegionMajority
from .decoder import CorrCLIPDecoder

__all__ = ['CorrCLIPDecoder', 'RegionMajority', 'RegionScopedAttention']
