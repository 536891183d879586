"""CLIPer's attention: that of all earlier blocks together (CLIPer, ICCV 2025)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from mmseg.registry import MODELS
from torch import Tensor

from ...attention.base import Attention
from ...attention.sinkhorn import sinkhorn
from ...attention.vanilla import VanillaSelfAttention
from ...record import BlockInput

if TYPE_CHECKING:
    from ...towers.image import ImageTower


@MODELS.register_module()
class EarlyLayerAttention(Attention):
    """The sum of CLIP's own attention in all blocks before the last, balanced, made symmetric, and cut at its mean.

    Each round divides the sum by its column sums and then by its row sums, and the next round goes on from there; a
    round's map is the symmetric part less the mean of each column, negative values set to 0, rows summing to 1. There
    are as many rounds as blocks: CLIPer gives each block's values a map of their own (`EarlyLayerFusion`). In any other
    decoder the map is that of the last round.
    """

    def __init__(self) -> None:
        super().__init__()
        self._vanilla = VanillaSelfAttention()

    def bind(self, tower: ImageTower) -> None:
        """Ask for the inputs of all blocks before the last."""
        super().bind(tower)
        self.depth = tower.depth
        self.needs |= set(range(tower.depth - 1))

    def rounds(self, b: BlockInput) -> Iterator[Tensor]:
        """The maps (B, heads, N, N) of the rounds, one after the other; float32."""
        total: Any = 0
        for number in range(1, self.depth):
            total = total + self._vanilla.weights(b.earlier(number))
        for _ in range(self.depth):
            total = sinkhorn(total)
            weights = (total + total.transpose(-1, -2)) / 2
            weights = (weights - weights.mean(dim=-2, keepdim=True)).clamp(min=0)
            yield weights / weights.sum(dim=-1, keepdim=True).clamp(min=torch.finfo(weights.dtype).tiny)

    def weights(self, b: BlockInput, mix: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """The map of the last round; there are no logits that `mix` could change."""
        *_, last = self.rounds(b)
        return last
