"""Trident: windows are spliced on one map of the image, which SAM's attention then segments (ICCV 2025)."""

from .decoder import UnprojectedGrid, UnprojectedTokens
from .stitch import SpliceThenSegment

__all__ = ['SpliceThenSegment', 'UnprojectedGrid', 'UnprojectedTokens']
