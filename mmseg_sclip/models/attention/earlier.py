"""The attention map of an earlier block, used in the last one (SCLIP, Table 3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmseg.registry import MODELS
from torch import Tensor

from ...errors import ConfigError
from ..streams import BlockInput
from .base import ProductAttention

if TYPE_CHECKING:
    from ..clip.tower import VisionTower


@MODELS.register_module()
class EarlierAttention(ProductAttention):
    """softmax(s q k^T) of another block, applied to the values of this one.

    Args:
        block: The number of that block, from 1, or negative from the end; -1, the last block, is CLIP itself.
    """

    def __init__(self, block: int = 3) -> None:
        super().__init__()
        self.block = block

    def bind(self, tower: VisionTower) -> None:
        """Ask for the output of the block before it.

        Raises:
            ConfigError: The tower has no such block.
        """
        number = tower.block_number(self.block)
        if number == 0:
            raise ConfigError('EarlierAttention.block is 0; blocks count from 1.')
        self.needs = frozenset({number - 1})

    def pairs(self, b: BlockInput) -> list[tuple[Tensor, Tensor, float]]:
        """Queries with keys of the other block."""
        source = b.earlier(self.block)
        return [(source.q, source.k, source.scale)]
