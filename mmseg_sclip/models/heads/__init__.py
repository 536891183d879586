"""Heads: from features and the text bank to scores."""

from .maskclip import MaskCLIPHead
from .text_similarity import TextSimilarityHead

__all__ = ['MaskCLIPHead', 'TextSimilarityHead']
