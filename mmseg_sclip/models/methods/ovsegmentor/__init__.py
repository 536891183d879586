"""OVSegmentor (CVPR 2023), a trained peer: GroupViT's network with other sizes, and BERT."""

from .source import OVSegmentorSource
from .text import OVSegmentorText

__all__ = ['OVSegmentorSource', 'OVSegmentorText']
