"""The seam of the towers: where an image tower and a text encoder come from."""

from .image import ImageTower

__all__ = ['ImageTower']
