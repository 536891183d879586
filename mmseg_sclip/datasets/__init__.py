"""The datasets that MMSegmentation lacks, the painted scenes, and the checks of files."""

from .coco_object import COCOObjectDataset
from .image_folder import ImageFolderDataset
from .label_maps import LoadLabelMap
from .painted_scenes import PaintedScenesDataset
from .transforms import ResizeToPatches, ScoreCentre
from .views import DerivedViews
from .voc20 import PascalVOC20Dataset

__all__ = [
    'COCOObjectDataset',
    'DerivedViews',
    'ImageFolderDataset',
    'LoadLabelMap',
    'PaintedScenesDataset',
    'PascalVOC20Dataset',
    'ResizeToPatches',
    'ScoreCentre',
]
