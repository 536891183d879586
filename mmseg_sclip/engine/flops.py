"""Multiply-adds of a config, counted without weights and without memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmseg.datasets import PackSegInputs
from mmseg.registry import TRANSFORMS
from torch.utils.flop_counter import FlopCounterMode

from ..checks import build_strategy, is_a
from ..images import steps_behind_loading
from ..models.clip import ClipSource, VisionTower
from ..models.decoders import Decoder
from ..models.image.windows import WindowGrid
from ..models.segmentors.settings import InferenceSettings
from ..models.text import load_vocabulary

_DEFAULT = dict(type='LastBlock', attention=dict(type='CorrelativeSelfAttention'))  # the backbone's


@dataclass(frozen=True)
class Cost:
    """What a config costs on one image; sizes are (height, width) in pixels, costs in 1e9 multiply-adds.

    Attributes:
        image: Size of the image file.
        network_input: Size after the pipeline's Resize.
        window: Size of a window.
        windows: Number of windows.
        clip_per_window: CLIP's own image tower with all its blocks, the number that papers give.
        clip_per_image: That for all windows.
        per_window: This config: the tower as far as its decoder needs it, the decoder, the projection of all
            tokens. Not in it: the products with the text, interpolation, and all that is done once an image.
        per_image: That for all windows.
    """

    image: tuple[int, int]
    network_input: tuple[int, int]
    window: tuple[int, int]
    windows: int
    clip_per_window: float
    clip_per_image: float
    per_window: float
    per_image: float

    def as_dict(self) -> dict[str, Any]:
        """For JSON; costs have `gmac_` in front of their names."""
        return {name if isinstance(v, (tuple, int)) else f'gmac_{name}': v for name, v in asdict(self).items()}


def count(config: Config, shape: tuple[int, int]) -> Cost:
    """Count the multiply-adds of a config on one image.

    Args:
        config: Its `clip.pretrained` is not looked at.
        shape: (height, width) of the image file in pixels.

    Raises:
        ValueError: The config is wrong.
    """
    model = config.model
    test_cfg = InferenceSettings.parse(model.get('test_cfg'))
    size = network_input(config, shape)
    windows = [(0, size[0], 0, size[1])]
    if test_cfg.mode == 'slide':
        windows = WindowGrid.cut(*size, test_cfg.crop_size, test_cfg.stride).windows
    top, bottom, left, right = windows[0]  # all are of one size
    window = (bottom - top, right - left)

    visual = ClipSource({**model.clip, 'pretrained': None}).empty_image_tower()
    tower = VisionTower(visual, model.backbone.get('positions', 'scale'))
    decoder = build_strategy('backbone.decoder', model.backbone.get('decoder') or _DEFAULT, Decoder)
    decoder.bind(tower)
    decoder.to('meta').eval()
    image = torch.empty(1, 3, *window, device='meta')
    queries = len(load_vocabulary(model.decode_head.vocabulary).queries)
    clip = _gmac(lambda: tower.record(image, frozenset({tower.depth})))
    own = _gmac(lambda: _encode(tower, decoder, image, queries))
    number = len(windows)
    return Cost(tuple(shape), size, window, number, clip, clip * number, own, own * number)


def network_input(config: Config, shape: tuple[int, int]) -> tuple[int, int]:
    """(height, width) of an image behind the test pipeline."""
    sample = dict(img=np.zeros((*shape, 3), np.uint8), img_shape=shape, ori_shape=shape)
    for step in steps_behind_loading(config.test_dataloader.dataset.pipeline):
        if not is_a(TRANSFORMS, step, PackSegInputs):
            sample = TRANSFORMS.build(step)(sample)
    return tuple(sample['img'].shape[:2])


def default_shape(config: Config) -> tuple[int, int]:
    """The size of a painted scene, or that of a typical photograph of Pascal VOC."""
    side = config.test_dataloader.dataset.get('size')
    return (side, side) if isinstance(side, int) else (375, 500)


def _encode(tower: VisionTower, decoder: Decoder, image: torch.Tensor, queries: int) -> None:
    record = tower.record(image, decoder.needs)
    scores = torch.empty(1, queries, *record.grid, device='meta')
    decoder.run(record, lambda tokens: scores)


@torch.no_grad()
def _gmac(work: Callable[[], object]) -> float:
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops() / 2e9  # the counter counts a multiply-add as two
