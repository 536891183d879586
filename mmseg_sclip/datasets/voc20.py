"""Pascal VOC 2012 without its background class."""

from mmseg.datasets import BaseSegDataset, PascalVOCDataset
from mmseg.registry import DATASETS

from ..errors import ConfigError
from .checked_layout import CheckedLayout


@DATASETS.register_module()
class PascalVOC20Dataset(CheckedLayout, BaseSegDataset):
    """VOC's twenty object classes; the files are VOC's own, background and outlines are ignored.

    Args:
        ann_file: The split file, one stem per line. Without it the image folder would be listed, which
            holds thousands of images that have no label map.
        reduce_zero_label: True for VOC's label maps, in which 0 is the background.
    """

    METAINFO = dict(classes=PascalVOCDataset.METAINFO['classes'][1:], palette=PascalVOCDataset.METAINFO['palette'][1:])
    LAYOUT = 'JPEGImages/*.jpg, SegmentationClass/*.png and ImageSets/Segmentation/val.txt (the VOC2012 folder)'

    def __init__(
        self,
        ann_file: str,
        img_suffix: str = '.jpg',
        seg_map_suffix: str = '.png',
        reduce_zero_label: bool = True,
        **kwargs,
    ) -> None:
        if not ann_file:
            raise ConfigError("PascalVOC20Dataset needs ann_file, for example 'ImageSets/Segmentation/val.txt'")
        super().__init__(
            ann_file=ann_file,
            img_suffix=img_suffix,
            seg_map_suffix=seg_map_suffix,
            reduce_zero_label=reduce_zero_label,
            **kwargs,
        )
