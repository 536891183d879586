"""Loading CLIP through open_clip: one place for both towers."""

from .config import ClipConfig
from .positions import POSITION_RULES
from .source import ClipSource
from .tower import VisionTower

__all__ = ['POSITION_RULES', 'ClipConfig', 'ClipSource', 'VisionTower']
