"""COCO-Object: the eighty things of COCO and one background."""

from mmseg.datasets import BaseSegDataset, COCOStuffDataset
from mmseg.registry import DATASETS

from .checked_layout import CheckedLayout

_THINGS = 80  # COCO-Stuff's classes begin with the things


@DATASETS.register_module()
class COCOObjectDataset(CheckedLayout, BaseSegDataset):
    """Label maps hold 0 for background (all stuff and all unlabelled pixels) and 1..80 for the things.

    They are semantic maps, although their suffix says "instance". No pixel is ignored.
    """

    METAINFO = dict(
        classes=('background', *COCOStuffDataset.METAINFO['classes'][:_THINGS]),
        palette=[[0, 0, 0], *COCOStuffDataset.METAINFO['palette'][:_THINGS]],
    )
    LAYOUT = (
        'images/val2017/*.jpg and annotations/val2017/*_instanceTrainIds.png '
        '(converted from the raw COCO-Stuff maps; the coco_stuff164k folder)'
    )

    def __init__(self, img_suffix: str = '.jpg', seg_map_suffix: str = '_instanceTrainIds.png', **kwargs) -> None:
        super().__init__(img_suffix=img_suffix, seg_map_suffix=seg_map_suffix, **kwargs)
