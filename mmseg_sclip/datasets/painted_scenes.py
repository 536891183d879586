"""The demo's dataset, which paints itself."""

from mmseg.datasets import BaseSegDataset
from mmseg.registry import DATASETS

from ..paths import scenes_root
from .checked_layout import CheckedLayout
from .materials import MATERIALS
from .painting import SceneSet, paint_folder

_COLOURS = {
    'grass': (80, 150, 55),
    'water': (40, 110, 175),
    'sand': (225, 200, 145),
    'brick': (170, 75, 55),
    'wood': (120, 80, 45),
    'stone': (120, 120, 125),
    'snow': (245, 250, 255),
    'lava': (250, 110, 0),
    'stripes': (245, 205, 40),
    'checkerboard': (25, 25, 30),
    'polka dots': (215, 55, 145),
    'sky': (130, 190, 250),
}


@DATASETS.register_module()
class PaintedScenesDataset(CheckedLayout, BaseSegDataset):
    """Scenes of twelve painted materials, painted into the cache folder when they are first listed.

    Args:
        seed: Of the scenes.
        count: Number of scenes.
        size: Side of a scene in pixels.
        max_regions: A scene has up to this many regions, and at least two (training: one).
        purpose: 'evaluation', 'training' or 'projection'; no two share a scene.
        data_root: None paints. A folder of the same layout is read instead; the arguments above are then ignored.
        data_prefix: As in `BaseSegDataset`; None is the layout of the painted folder.
    """

    METAINFO = dict(classes=MATERIALS, palette=[list(_COLOURS[material]) for material in MATERIALS])
    LAYOUT = 'images/*.jpg and annotations/*.png'

    def __init__(
        self,
        seed: int = 0,
        count: int = 100,
        size: int = 192,
        max_regions: int = 6,
        purpose: str = 'evaluation',
        data_root: str | None = None,
        data_prefix: dict | None = None,
        **kwargs,
    ) -> None:
        self.scenes = None
        if data_root is None:
            self.scenes = SceneSet(purpose, seed, count, size, max_regions)
            self._cache = scenes_root()
            data_root = str(self._cache / self.scenes.name)
        if data_prefix is None:
            data_prefix = dict(img_path='images', seg_map_path='annotations')
        super().__init__(data_root=data_root, data_prefix=data_prefix, **kwargs)

    def load_data_list(self) -> list[dict]:
        """List the samples, after painting those that are not there yet."""
        if self.scenes is not None:
            paint_folder(self.scenes, self._cache)
        return super().load_data_list()
