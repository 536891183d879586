"""What stands in for ReCo's encoder and for photographs of classes on the demo."""

from __future__ import annotations

from functools import cached_property
from typing import Annotated

import numpy as np
import torch
from mmseg.registry import MODELS
from torch import Tensor
from torch.nn import functional as F

from ....datasets.materials import MATERIALS
from ....datasets.scenes import GENERATOR_VERSION, scene
from ....rules import AtLeast
from ...companions.base import Companion, Features
from .references import References


@MODELS.register_module()
class PaintedReferences(References):
    """Scenes of the demo with each of its materials, for a demo without photographs.

    Args:
        number: Of scenes for each material.
        seed: Of the scenes, which are none that the demo is evaluated on.
        size: Their side in pixels.
    """

    where = 'The painter of the demo'

    def __init__(
        self, number: Annotated[int, AtLeast(1)] = 8, seed: int = 0, size: Annotated[int, AtLeast(16)] = 96
    ) -> None:
        self.each = number
        self.settings = (seed, size)

    @cached_property
    def scenes(self) -> dict[str, list[np.ndarray]]:
        """The first scenes with each material; materials of a small share of a scene do not count."""
        found: dict[str, list[np.ndarray]] = {material: [] for material in MATERIALS}
        index = 0
        while any(len(images) < self.each for images in found.values()):
            image, label = scene('projection', self.settings[0], index, self.settings[1], 2)
            for number in np.flatnonzero(np.bincount(label.ravel()) > label.size // 8):
                found[MATERIALS[number]].append(image)
            index += 1
        return found

    def number(self, name: str) -> int:
        """See `References`."""
        return self.each if name in MATERIALS else 0

    def images(self, name: str, most: int) -> list[np.ndarray]:
        """See `References`."""
        return self.scenes[name][: min(most, self.each)]

    def identity(self, name: str, most: int) -> list[str]:
        """See `References`."""
        return [f'painted {GENERATOR_VERSION} {self.settings} {name} {min(most, self.each)}']


@MODELS.register_module()
class PlainColours(Companion):
    """Colours and edges around each cell, as they are, so that they can be compared from image to image.

    Args:
        patch_size: Side of a cell in pixels.
    """

    def __init__(self, patch_size: Annotated[int, AtLeast(2)] = 8) -> None:
        super().__init__()
        self.patch_size = patch_size

    def features(self, images: Tensor) -> Features:
        """See `Companion.features`."""
        grey = images.mean(dim=1, keepdim=True)
        edges = [F.pad(grey.diff(dim=dim).abs(), pad) for dim, pad in ((-1, (0, 1)), (-2, (0, 0, 0, 1)))]
        cells = F.avg_pool2d(torch.cat([images, *edges], dim=1), self.patch_size)  # it floors
        return Features(F.avg_pool2d(cells, 3, stride=1, padding=1, count_include_pad=False))
