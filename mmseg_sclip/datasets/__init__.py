"""The datasets that MMSegmentation lacks."""

from .coco_object import COCOObjectDataset
from .painted_scenes import PaintedScenesDataset
from .voc20 import PascalVOC20Dataset

__all__ = ['COCOObjectDataset', 'PaintedScenesDataset', 'PascalVOC20Dataset']
