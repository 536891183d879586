"""TCL (arXiv 2212.00785)."""

from .decoder import MaskDecoder, MaskTokens
from .head import MaskHead
from .source import TclSource, TclTower

__all__ = ['MaskDecoder', 'MaskHead', 'MaskTokens', 'TclSource', 'TclTower']
