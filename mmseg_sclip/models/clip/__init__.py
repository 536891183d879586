"""Loading CLIP through open_clip: one place for both towers."""

from .config import ClipConfig
from .positions import POSITION_RULES
from .resnet import ClipResNetSource, ResNetTower
from .source import ClipSource
from .tower import VisionTower

__all__ = ['POSITION_RULES', 'ClipConfig', 'ClipResNetSource', 'ClipSource', 'ResNetTower', 'VisionTower']
