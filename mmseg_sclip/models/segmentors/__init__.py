"""Segmentors."""

from .sclip_segmentor import SCLIPSegmentor
from .together import MethodBundle, score_together
from .tta import SCLIPTTAModel

__all__ = ['MethodBundle', 'SCLIPSegmentor', 'SCLIPTTAModel', 'score_together']
