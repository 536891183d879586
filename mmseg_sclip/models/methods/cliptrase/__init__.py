"""CLIPtrase (ECCV 2024)."""

from .affinity import LastBlockWithAffinity
from .head import ClassTokenHead
from .voting import SegmentVoting

__all__ = ['ClassTokenHead', 'LastBlockWithAffinity', 'SegmentVoting']
