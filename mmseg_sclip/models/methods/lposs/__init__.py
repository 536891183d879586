"""LPOSS and LPOSS+ (CVPR 2025)."""

from .patches import PatchPropagation
from .pixels import PixelPropagation
from .synonyms import SynonymMaximum

__all__ = ['PatchPropagation', 'PixelPropagation', 'SynonymMaximum']
