"""The seam of the companions, and those that several methods share: second networks that look at the same windows."""

from .base import Companion, Features, Relations
from .colour_regions import ColourRegions
from .filter_bank import FilterBank
from .region_files import RegionFiles
from .regions import RegionMaps, nearest
from .sam import SamCompanion
from .sam2_regions import Sam2Regions
from .timm_vit import TimmCompanion

__all__ = [
    'ColourRegions',
    'Companion',
    'Features',
    'FilterBank',
    'RegionFiles',
    'RegionMaps',
    'Relations',
    'Sam2Regions',
    'SamCompanion',
    'TimmCompanion',
    'nearest',
]
