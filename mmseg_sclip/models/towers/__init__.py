"""The seam of the towers: where an image tower and a text encoder come from."""

from .source import TowerSource, build_source

__all__ = ['TowerSource', 'build_source']
