"""Heads: from features and the text bank to scores."""

from .text_similarity import TextSimilarityHead

__all__ = ['TextSimilarityHead']
