"""The image as it was loaded, for parts that look at it beside the network's input."""

from __future__ import annotations

import numpy as np

ORIGINAL = 'original'  # the key of a `KeptImage` in what a pipeline passes on, and in a packed sample's metadata


class KeptImage:
    """An image as it was loaded, which nobody changes: copies of it are itself, and printing it shows its size.

    Args:
        bgr: (H, W, 3), as MMCV's steps have images; other types than uint8 are rounded.
    """

    def __init__(self, bgr: np.ndarray) -> None:
        self.bgr = bgr if bgr.dtype == np.uint8 else bgr.round().clip(0, 255).astype(np.uint8)

    @property
    def rgb(self) -> np.ndarray:
        """(H, W, 3), uint8."""
        return np.ascontiguousarray(self.bgr[..., ::-1])

    def __deepcopy__(self, memo: dict) -> KeptImage:
        return self

    def __repr__(self) -> str:
        return f'KeptImage({self.bgr.shape[0]} x {self.bgr.shape[1]})'
