"""Images packed for a model, as a dataset would pack them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from mmcv.transforms import LoadAnnotations, LoadImageFromFile
from mmengine.dataset import Compose
from mmseg.registry import TRANSFORMS

from ..checks import is_a
from .loading import CheckImageFile


def pack_photograph(steps: Sequence[Mapping], rgb: np.ndarray, path: str | Path) -> dict:
    """A photograph as a dataset would give it to the model: `inputs` (3, h, w) BGR, and `data_samples`.

    Args:
        steps: The test pipeline of a config; what reads files in it is left out.
        rgb: (H, W, 3), uint8, from `read_photograph`.
        path: Of its file, or a name for messages.
    """
    sample = dict(img=np.ascontiguousarray(rgb[..., ::-1]), img_path=str(path))
    sample['img_shape'] = sample['ori_shape'] = rgb.shape[:2]
    return Compose(steps_after_loading(steps))(sample)


def pack_without_truth(steps: Sequence[Mapping], info: dict) -> dict:
    """An image file that has no label map, packed for a model.

    Args:
        steps: The test pipeline of a config.
        info: What a dataset knows of the image, or dict(img_path=...).
    """
    return Compose([step for step in steps if not is_a(TRANSFORMS, step, LoadAnnotations)])(info)


def steps_after_loading(steps: Sequence[Mapping]) -> list[Mapping]:
    """A test pipeline without the steps that read images and label maps."""
    return [step for step in steps if not is_a(TRANSFORMS, step, LoadImageFromFile, LoadAnnotations, CheckImageFile)]
