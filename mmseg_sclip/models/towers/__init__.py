"""The seam of the towers: where an image tower and a text encoder come from."""

from .closed import ClosedTower
from .groups import GroupTower
from .image import ImageTower
from .released import ReleasedSource
from .source import TowerSource, build_source

__all__ = ['ClosedTower', 'GroupTower', 'ImageTower', 'ReleasedSource', 'TowerSource', 'build_source']
