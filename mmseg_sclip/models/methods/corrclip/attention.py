"""CorrCLIP's attention: patches attend where a second network finds them alike, within their region."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import torch
from mmseg.registry import MODELS
from torch import Tensor
from torch.nn import functional as F

from ....rules import AtLeast, Positive
from ...attention.companion_grid import CompanionAttention
from ...companions import nearest
from ...image.geometry import resizing_matrix
from ...parts import Part
from ...precision import without_autocast
from ...record import BlockInput, Record
from .merging import Regions, merge_regions


class Scopes(Part):
    """What a second network says of the patches of windows: how alike they are, and which regions they are of.

    Args:
        companion: The name of the network, whose queries and keys are read.
        regions: The name of the region maps.
        eps: See `merge_regions`.
    """

    def __init__(self, companion: str, regions: str, eps: float) -> None:
        super().__init__()
        self.companion = companion
        self.regions = regions
        self.eps = eps
        self.companions = frozenset({companion, regions})

    def forward(self, record: Record) -> tuple[Tensor, Regions]:
        """Unit features (B, n, C), float32, the grid's rows first, and merged regions on the same grid."""
        seen, ids = record.companion(self.companion), record.companion(self.regions).map[:, 0]
        with without_autocast(ids.device):
            features = F.normalize((seen.get('queries').float() + seen.get('keys').float()).flatten(2), dim=1)
        features = features.transpose(1, 2)
        return features, merge_regions(features, Regions.of(nearest(ids, seen.grid)), self.eps)


@MODELS.register_module()
class RegionScopedAttention(CompanionAttention):
    """One map for all heads, on the grid of a second network (CorrCLIP, arXiv 2411.10086, sections 3.2 and 3.3).

    A = softmax(S / temperature), where S are the cosines of q + k of the network's last attention. Patches attend
    within their region. A pair with a patch that has no region counts where S is above its mean over the window, so
    that such a patch may attend into regions and be attended to from there. A patch always attends to itself.

    Args:
        companion: The name of the network in `model.companions`.
        regions: The name of the `RegionMaps` there.
        temperature: Divides the cosines.
        eps: Regions whose mean features are as near as that to the nearest there are, are merged; see `merge_regions`.
    """

    def __init__(
        self,
        companion: str = 'dino',
        regions: str = 'regions',
        temperature: Annotated[float, Positive] = 0.25,
        eps: Annotated[float, AtLeast(0)] = 0.2,
    ) -> None:
        super().__init__(companion)
        self.scopes = Scopes(companion, regions, eps)
        self.temperature = temperature

    def weights(self, b: BlockInput, mix: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """The map (B, 1, n, n), float32, of the patches of the companion's grid; `mix` acts on S / temperature."""
        self.check_grid(b)
        features, regions = b.record.once(self.scopes)
        maps = [self._map(*window, mix) for window in zip(features, regions.ids.flatten(1), strict=True)]
        return torch.stack(maps)[:, None]

    def attend(self, b: BlockInput) -> Tensor:
        """The attended values (B, heads, n, head_dim)."""
        self.check_grid(b)
        mixed = self.mix(b.record, b.v.transpose(1, 2).flatten(2), b.grid)
        return mixed.unflatten(2, (b.v.shape[1], -1)).transpose(1, 2)

    def mix(self, record: Record, values: Tensor, grid: tuple[int, int]) -> Tensor:
        """The map times values, one window after the other, since a map of 42 x 42 patches has 12 MB.

        Args:
            record: Of the windows.
            values: (B, h * w, channels). Those of another grid are enlarged to the companion's, bilinearly; in fact the
                map is brought to theirs, which gives the same and multiplies less.
            grid: (h, w).

        Returns:
            (B, n, channels), on the companion's grid.
        """
        features, regions = record.once(self.scopes)
        maps = (self._map(*window) for window in zip(features, regions.ids.flatten(1), strict=True))
        return torch.stack(
            [
                onto_grid(weights, tuple(regions.ids.shape[1:]), grid).to(window.dtype) @ window
                for weights, window in zip(maps, values, strict=True)
            ]
        )

    def _map(self, features: Tensor, ids: Tensor, mix: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """The map (n, n) of a window from its features (n, C) and its regions (n,)."""
        with without_autocast(features.device):
            cosines = features @ features.T
            mean = cosines.mean()
        outside = ids == 0
        allowed = (cosines > mean) & (outside[:, None] | outside)
        allowed |= ids[:, None] == torch.where(outside, -1, ids)
        allowed.fill_diagonal_(True)  # of equal patches none is above the mean
        logits = cosines.div_(self.temperature) if mix is None else mix(cosines / self.temperature)
        return logits.masked_fill_(~allowed, -torch.inf).softmax(dim=-1)


def onto_grid(weights: Tensor, grid: tuple[int, int], other: tuple[int, int]) -> Tensor:
    """A map (rows, h * w) of how cells of a grid are mixed, as one of cells of another grid that are enlarged to it.

    Args:
        weights: Of the grid's cells.
        grid: (h, w).
        other: (h', w').

    Returns:
        (rows, h' * w'), so that its product with values is that of the map with the enlarged values.
    """
    if grid == other:
        return weights
    down, across = (resizing_matrix(*sides).to(weights) for sides in zip(other, grid, strict=True))
    weights = weights.unflatten(1, grid) @ across  # (rows, h, w')
    return (weights.mT @ down).mT.flatten(1)
