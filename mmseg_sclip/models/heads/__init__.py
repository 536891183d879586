"""The seam of the heads: from features and the text bank to scores."""

from .base import Head
from .group_painting import GroupPaintingHead
from .maps import MapHead
from .text_similarity import TextSimilarityHead

__all__ = ['GroupPaintingHead', 'Head', 'MapHead', 'TextSimilarityHead']
