"""CLIPtrase (ECCV 2024)."""

from .affinity import TokenSimilarity
from .head import ClassTokenHead
from .voting import SegmentVoting

__all__ = ['ClassTokenHead', 'TokenSimilarity', 'SegmentVoting']
