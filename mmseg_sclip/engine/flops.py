"""Multiply-adds of a config, counted without weights and without memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmseg.datasets import PackSegInputs
from mmseg.models import EncoderDecoder
from mmseg.registry import MODELS, TRANSFORMS
from torch.utils.flop_counter import FlopCounterMode

from ..checks import is_a
from ..images import steps_after_loading
from ..models.affinity import Affinity
from ..models.companions.base import build_companions, load_frozen
from ..models.image.windows import WindowGrid
from ..models.segmentors.settings import InferenceSettings
from ..models.towers.source import TowerSource, build_source


@dataclass(frozen=True)
class Cost:
    """What a config costs on one image; sizes are (height, width) in pixels, costs in 1e9 multiply-adds.

    Attributes:
        model_name: What the source of its towers is called.
        image: Size of the image file.
        network_input: Size after the pipeline's Resize.
        window: Size of a window, with its padding.
        windows: Number of windows.
        clip_per_window: CLIP's own image tower with all its blocks, the number that papers give.
        clip_per_image: That for all windows.
        per_window: This config: the tower as far as a part reads it, the decoder, the projection of all tokens,
            affinities of the patches, and the second networks that parts read. Not in it: the products with the text,
            interpolation, and all that is done once per image.
        per_image: That for all windows.
    """

    model_name: str
    image: tuple[int, int]
    network_input: tuple[int, int]
    window: tuple[int, int]
    windows: int
    clip_per_window: float
    clip_per_image: float
    per_window: float
    per_image: float

    def as_dict(self) -> dict[str, Any]:
        """For JSON; the names of costs begin with `gmac_`."""
        return {name if isinstance(v, (str, tuple, int)) else f'gmac_{name}': v for name, v in asdict(self).items()}


def count(config: Config, shape: tuple[int, int]) -> Cost:
    """Count the multiply-adds of a config on one image.

    Args:
        config: Its weights are not looked for.
        shape: (height, width) of the image file in pixels.

    Raises:
        ValueError: The config is wrong.
    """
    model = config.model
    test_cfg = InferenceSettings.parse(model.get('test_cfg'))
    size = network_input(config, shape)
    crop, stride = (test_cfg.crop_size, test_cfg.stride) if test_cfg.mode == 'slide' else (size, size)
    grid = WindowGrid.cut(*size, crop, stride, test_cfg.window_multiple)
    window = grid.window_size

    source = build_source(model.clip, 'The config')
    companions = build_companions(model.get('companions'))
    for companion in companions.values():
        load_frozen(companion, weights=False)
    segmentor = MODELS.build({**model, 'clip': _WithoutWeights(source), 'companions': companions}).to('meta').eval()
    segmentor.requires_grad_(False)  # the counter looks for gradients
    tower, image = segmentor.backbone.tower, torch.empty(1, 3, *window, device='meta')
    clip = _gmac(lambda: tower.run_whole(image))
    own = _gmac(lambda: _encode(segmentor, image))
    number = len(grid.windows)
    return Cost(source.name, tuple(shape), size, window, number, clip, clip * number, own, own * number)


def network_input(config: Config, shape: tuple[int, int]) -> tuple[int, int]:
    """(height, width) of an image after the test pipeline."""
    sample = dict(img=np.zeros((*shape, 3), np.uint8), img_shape=shape, ori_shape=shape)
    for step in steps_after_loading(config.test_dataloader.dataset.pipeline):
        if not is_a(TRANSFORMS, step, PackSegInputs):
            sample = TRANSFORMS.build(step)(sample)
    return tuple(sample['img'].shape[:2])


def default_shape(config: Config) -> tuple[int, int]:
    """The size of a painted scene, or that of a typical photograph of Pascal VOC."""
    side = config.test_dataloader.dataset.get('size')
    return (side, side) if isinstance(side, int) else (375, 500)


class _WithoutWeights(TowerSource):
    """A copy of a source whose image tower has shapes but no weights."""

    def __init__(self, source: TowerSource) -> None:
        super().__init__(source.name, source.mean, source.std, source.precision)
        self.build_image_tower, self.build_text_encoder = source.empty_image_tower, source.build_text_encoder


def _encode(segmentor: EncoderDecoder, image: torch.Tensor) -> None:
    """All that is computed for a window from its pixels to its tokens, and what of it is read later."""
    record = segmentor.backbone.record(image, segmentor.needs).read_by(segmentor.companions)
    scores = torch.empty(1, segmentor.out_channels, *record.grid, device='meta')
    segmentor.backbone.decoder.run(record, lambda tokens: scores)
    for name in segmentor.decode_head.companions:
        record.companion(name)
    for part in segmentor.modules():
        if isinstance(part, Affinity):
            record.once(part)
    for name in () if segmentor.propagation is None else segmentor.propagation.companions:
        record.companion(name)


@torch.no_grad()
def _gmac(work: Callable[[], object]) -> float:
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops() / 2e9  # the counter counts a multiply-add as two
