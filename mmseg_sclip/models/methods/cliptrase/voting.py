"""CLIPtrase's vote of the pixels of a segment on its class (ECCV 2024)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import torch
from mmseg.registry import MODELS
from torch import Tensor
from torch.nn import functional as F

from ....checks import build_strategy
from ....rules import AtLeast, Positive
from ...affinity import Affinity
from ...record import Record
from ...refinements.base import CLASS_SCORES, ImageView, Refinement
from .clustering import dbscan

_ENLARGED, _WINDOW = 4, 7  # the cluster maps are enlarged before the median over a square of so many of their pixels
_AT_ONCE = 1 << 22  # numbers of the median's windows in memory


@MODELS.register_module()
class SegmentVoting(Refinement):
    """All pixels of a segment get the class that most of them have.

    Patches whose rows of the affinity are near each other form clusters (DBSCAN). The mean row of a cluster is a map of
    how much it is like each place; a pixel belongs to the cluster whose map is largest there. The class scores become
    the share of each class in the segment's votes, so that `prob_thd` would ask for a majority. Where there is no
    cluster, the scores stay as they are.

    Args:
        affinity: Config of an `Affinity`; left out, a `TokenSimilarity`.
        eps: Largest distance of neighbouring rows. It grows with the number of patches: CLIPtrase takes 0.7 for 14 x 14
            and 1.1 for 21 x 21 patches.
        min_points: Rows near a row, itself included, that make it the core of a cluster. CLIPtrase takes 3 and 7.
    """

    stage = CLASS_SCORES
    whole_image = True

    def __init__(
        self,
        affinity: Mapping | None = None,
        eps: Annotated[float, Positive] = 1.1,
        min_points: Annotated[int, AtLeast(1)] = 7,
    ) -> None:
        super().__init__()
        affinity = dict(type='TokenSimilarity') if affinity is None else affinity
        self.affinity = build_strategy('SegmentVoting.affinity', affinity, Affinity)
        self.eps = eps
        self.min_points = min_points

    def look(self, record: Record) -> Tensor:
        """The affinity (B, h, w, n) of the patches on the grid with all patches."""
        return record.once(self.affinity).unflatten(1, record.grid)

    def refine(self, scores: Tensor, view: ImageView) -> Tensor:
        """Refine class scores (C, H, W)."""
        grid, affinity = view.seen.shape[:2], view.seen.flatten(0, 1)  # (n, n)
        clusters = dbscan(affinity, self.eps, self.min_points)
        number = int(clusters.max()) + 1
        if not number:
            return scores
        maps = median_filter(enlarge(cluster_means(affinity, clusters, number).unflatten(1, grid)))
        segments = view.best_at_pixels(maps)
        labels = scores.max(dim=0)[1]
        classes = len(scores)
        votes = (segments * classes + labels).flatten().bincount(minlength=number * classes).view(number, classes)
        shares = votes / votes.sum(dim=1, keepdim=True).clamp(min=1)
        return shares.T.contiguous()[:, segments]


def cluster_means(rows: Tensor, clusters: Tensor, number: int) -> Tensor:
    """The mean of the rows (n, d) of each of `number` clusters, (number, d); rows of cluster -1 are left out."""
    members = F.one_hot(clusters + 1, number + 1)[:, 1:].T.to(rows)  # (number, n)
    return members @ rows / members.sum(dim=1, keepdim=True)


def enlarge(maps: Tensor) -> Tensor:
    """Maps (K, h, w) at four times their sides."""
    return F.interpolate(maps[None], scale_factor=_ENLARGED, mode='bilinear', align_corners=False)[0]


def median_filter(maps: Tensor) -> Tensor:
    """The median of maps (K, h, w) over the 7 x 7 pixels around each; the border is mirrored, its pixels repeated."""
    reach = _WINDOW // 2
    for dim in (1, 2):
        side = maps.shape[dim]
        place = torch.arange(-reach, side + reach, device=maps.device)
        place = torch.where(place < 0, -1 - place, place)
        maps = maps.index_select(dim, torch.where(place >= side, 2 * side - 1 - place, place))
    windows = maps.unfold(1, _WINDOW, 1).unfold(2, _WINDOW, 1)  # (K, h, w, 7, 7), a view
    chunk = max(1, _AT_ONCE // (windows[0].numel()))
    return torch.cat([part.flatten(3).median(dim=-1)[0] for part in windows.split(chunk)])
