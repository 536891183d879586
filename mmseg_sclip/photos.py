"""Images as pixels to draw on, and those without ground truth through the test pipeline of a config."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from mmcv.transforms import LoadAnnotations
from mmengine.dataset import Compose
from mmseg.registry import TRANSFORMS

from .apis.settings import steps_behind_loading


def pack_photograph(steps: Sequence[Mapping], rgb: np.ndarray, path: str | Path) -> dict:
    """A photograph from anywhere, as a dataset would give it to the model.

    Args:
        steps: The test pipeline of a config.
        rgb: (H, W, 3), uint8, from `read_photograph`.
        path: Of its file, for messages.
    """
    pipeline = Compose([dict(type='LoadImageFromNDArray'), *steps_behind_loading(steps)])
    packed = pipeline(dict(img=np.ascontiguousarray(rgb[..., ::-1])))
    packed['data_samples'].set_metainfo(dict(img_path=str(path)))
    return packed


def pack_without_truth(steps: Sequence[Mapping], info: dict) -> dict:
    """An image of a dataset that has no label map.

    Args:
        steps: The test pipeline of a config.
        info: What the dataset knows of the image.
    """

    def reads_labels(step: Mapping) -> bool:
        cls = TRANSFORMS.get(step['type']) if isinstance(step['type'], str) else step['type']
        return inspect.isclass(cls) and issubclass(cls, LoadAnnotations)

    return Compose([step for step in steps if not reads_labels(step)])(info)
