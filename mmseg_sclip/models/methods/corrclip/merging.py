"""Regions of windows on the grids of patches, those of one kind merged (CorrCLIP, arXiv 2411.10086, section 3.3)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ...components import components
from ...precision import without_autocast


@dataclass(frozen=True)
class Regions:
    """The regions of windows on a grid.

    Attributes:
        ids: (B, h, w), int64, counted from 0 in each window, which is its lowest number: what has no region.
        most: Most regions of a window, that one included.
    """

    ids: Tensor
    most: int

    @classmethod
    def of(cls, ids: Tensor) -> Regions:
        """From maps (B, h, w) of whole numbers from 0 on: in each window their ranks among those that it has."""
        if ids.is_meta:  # where costs are counted, any number of regions is as good as another
            return cls(ids, 16)
        windows = torch.arange(len(ids), device=ids.device)[:, None, None]
        stride = ids.max() + 1
        keys, ranks = (ids + windows * stride).unique(return_inverse=True)
        counts = (keys // stride).bincount(minlength=len(ids))
        first = counts.cumsum(0) - counts
        return cls(ranks - first[:, None, None], int(counts.max()))

    def one_hot(self) -> Tensor:
        """(B, regions, h * w), bool."""
        return self.ids.flatten(1)[:, None] == torch.arange(self.most, device=self.ids.device)[:, None]


def region_cosines(features: Tensor, regions: Regions) -> Tensor:
    """How alike regions are: cosines (B, regions, regions) of the means of their patches, float32.

    Args:
        features: (B, n, C), unit norm, float32.
        regions: On the same grid; rows of regions that a window does not have are 0.
    """
    with without_autocast(features.device):
        means = F.normalize(regions.one_hot().to(features.dtype) @ features, dim=-1)  # of sums, with their direction
        return means @ means.transpose(1, 2)


def merge_regions(features: Tensor, regions: Regions, eps: float) -> Regions:
    """Make one region of those whose features are alike, directly or through others.

    It is DBSCAN with one point as a cluster: regions are neighbours where the largest cosine of a window, that of a
    region with itself included, exceeds theirs by `eps` at most. The lowest number of a window is left as it is.

    Args:
        features: (B, n, C), unit norm, float32, of the patches of the same grid.
        regions: To merge.
        eps: Largest distance of neighbours.
    """
    if regions.ids.is_meta:
        return regions
    cosines, most = region_cosines(features, regions), regions.most
    number = regions.ids.amax(dim=(1, 2)) + 1  # of the regions of each window
    ranks = torch.arange(most, device=cosines.device)
    takes_part = (ranks > 0) & (ranks < number[:, None])
    pairs = takes_part[:, :, None] & takes_part[:, None]
    largest = cosines.masked_fill(~pairs, -torch.inf).amax(dim=(1, 2), keepdim=True)
    window, one, other = (pairs & (largest - cosines <= eps)).nonzero().cpu().numpy().T
    found = components(window * most + one, window * most + other, len(cosines) * most)
    merged = torch.from_numpy(found).to(cosines.device).view(-1, most)
    merged = merged - merged[:, :1]  # components are counted window by window
    ids = merged.gather(1, regions.ids.flatten(1)).view_as(regions.ids)
    return Regions(ids, int(ids.max()) + 1)
