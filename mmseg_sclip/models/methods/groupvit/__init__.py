"""GroupViT (CVPR 2022), a trained peer: its towers. The painting rule is shared and lies with the heads."""

from .source import GroupViTSource
from .text import GroupViTText

__all__ = ['GroupViTSource', 'GroupViTText']
