"""SegCLIP (ICML 2023)."""

from .source import SegclipSource, SegclipTower

__all__ = ['SegclipSource', 'SegclipTower']
