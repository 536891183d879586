"""CorrCLIP's map correction: a region has one label."""

from __future__ import annotations

import torch
from mmseg.models import EncoderDecoder
from mmseg.registry import MODELS
from torch import Tensor

from ....errors import ConfigError
from ...companions.regions import RegionMaps
from ...record import Source
from ...refinements.base import LABELS, Refinement


@MODELS.register_module()
class RegionMajority(Refinement):
    """All pixels of a region take the label that most of them have, of several such labels the smallest.

    Pixels without a region, those of the lowest number of the image, keep theirs. In the official code, and so here,
    one region pays for it in an image that regions cover wholly (CorrCLIP, arXiv 2411.10086, section 3.4).

    Args:
        regions: The name of the `RegionMaps` in `model.companions`.
    """

    stage = LABELS

    def __init__(self, regions: str = 'regions') -> None:
        super().__init__()
        self.regions = regions
        self.companions = frozenset({regions})

    def check(self, segmentor: EncoderDecoder) -> None:
        """Refuse a companion that gives no regions."""
        check_regions(self, segmentor, self.regions)

    def relabel(self, labels: Tensor, source: Source, model: EncoderDecoder) -> Tensor:
        """See `Refinement.relabel`."""
        regions = model.companions[self.regions].of(source, model.normaliser).to(labels.device)
        return majority_labels(labels, regions)


def majority_labels(labels: Tensor, regions: Tensor) -> Tensor:
    """Labels (H, W), int64, after the majority of each region.

    Args:
        labels: From 0 on.
        regions: (H, W), int64, from 0 on without gaps; 0 keeps its labels.
    """
    classes, number = int(labels.max()) + 1, int(regions.max()) + 1
    counts = (regions * classes + labels).flatten().bincount(minlength=number * classes)
    majority = counts.view(number, classes).max(dim=1).indices  # of equal ones the first
    return torch.where(regions > 0, majority[regions], labels)


def check_regions(part: object, segmentor: EncoderDecoder, name: str) -> None:
    """Refuse a segmentor whose companion of this name gives no regions.

    Raises:
        ConfigError: With its kind.
    """
    companion = dict(segmentor.companions).get(name)  # which is there, or is missed elsewhere
    if companion is not None and not isinstance(companion, RegionMaps):
        raise ConfigError(
            f'{type(part).__name__} reads regions from model.companions.{name}, but {type(companion).__name__} gives '
            'none. Name RegionFiles there, or another kind of RegionMaps.'
        )
