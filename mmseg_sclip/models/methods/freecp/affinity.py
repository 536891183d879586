"""FreeCP's affinity: CLIP's own attention between patches, averaged over blocks (ICCV 2025)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from mmseg.registry import MODELS
from torch import Tensor

from ....checks import check_choice
from ....rules import AtLeast
from ...affinity import Affinity
from ...attention.vanilla import VanillaSelfAttention
from ...record import Record

if TYPE_CHECKING:
    from ...towers.image import ImageTower


@MODELS.register_module()
class MeanAttention(Affinity):
    """CLIP's own attention between patches, the mean over all blocks before the last.

    Rows do not sum to 1, since the class token's share is cut off.

    Args:
        head: The number of the one attention head that is taken, from 1, as the official code of FreeCP does by a
            slip for GEM; None for the mean of all heads, which is meant.
    """

    def __init__(self, head: Annotated[int, AtLeast(1)] | None = None) -> None:
        super().__init__()
        self.head = head
        self._vanilla = VanillaSelfAttention()

    def bind(self, tower: ImageTower) -> None:
        """Ask for the inputs of all blocks before the last.

        Raises:
            ConfigError: The tower has no such head.
        """
        if self.head is not None:
            check_choice('affinity.head', self.head, range(1, tower.heads + 1))
        super().bind(tower)
        self.needs |= set(range(tower.depth - 1))

    def forward(self, record: Record) -> Tensor:
        """(B, n, n), float32; one block's maps are held at a time."""
        depth, prefix = record.tower.depth, record.tower.prefix
        total: Any = 0
        for number in range(1, depth):
            weights = self._vanilla.weights(record.block_input(number))
            weights = weights.mean(dim=1) if self.head is None else weights[:, self.head - 1]  # (B, N, N)
            total = total + weights
        return total[:, prefix:, prefix:] / (depth - 1)
