"""Segmentors."""

from .sclip_segmentor import SCLIPSegmentor

__all__ = ['SCLIPSegmentor']
