"""The seam of the heads: from features and the text bank to scores."""

from .maps import MapHead
from .text_similarity import TextSimilarityHead

__all__ = ['MapHead', 'TextSimilarityHead']
