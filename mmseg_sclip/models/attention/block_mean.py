"""An attention averaged over blocks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from mmseg.registry import MODELS
from torch import Tensor

from ...checks import build_strategy
from ...errors import ConfigError
from ..streams import BlockInput
from .base import Attention

if TYPE_CHECKING:
    from ..clip.tower import VisionTower


@MODELS.register_module()
class BlockMeanAttention(Attention):
    """The mean over blocks of an attention's maps, applied to the values of this block only.

    Each map is made from the queries, keys and values of its own block in CLIP's untouched stream. With the default it
    is the mean over all blocks of softmax(s k k^T).

    Args:
        attention: Config of the `Attention` that is averaged.
        blocks: Their numbers, from 1, or negative from the end; None for all.

    Raises:
        ConfigError: `blocks` is empty.
    """

    def __init__(self, attention: Mapping | None = None, blocks: Sequence[int] | None = None) -> None:
        super().__init__()
        if attention is None:
            attention = dict(type='CorrelativeSelfAttention', projections='k')
        self.attention = build_strategy('BlockMeanAttention.attention', attention, Attention)
        if blocks is not None and len(blocks) == 0:
            raise ConfigError('BlockMeanAttention.blocks is empty; give one or more numbers, or None for all blocks.')
        self.blocks = blocks

    def bind(self, tower: VisionTower) -> None:
        """Bind the attention and ask for the inputs of the blocks.

        Raises:
            ConfigError: The tower has no such block, or a block is named twice.
        """
        self.attention.bind(tower)
        self.passes = self.attention.passes
        blocks = range(1, tower.depth + 1) if self.blocks is None else self.blocks
        self.numbers = tuple(tower.block_number(block) for block in blocks)
        if 0 in self.numbers or len(set(self.numbers)) < len(self.numbers):
            raise ConfigError(
                f'BlockMeanAttention.blocks is {self.blocks!r}; blocks count from 1, and none may be named twice.'
            )
        inputs = {number - 1 for number in self.numbers}
        self.needs = frozenset(inputs) | tower.block_numbers(self.attention.needs)

    def weights(self, b: BlockInput, mix: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """The mean of the maps, (B, heads or 1, N, N); one block's map is in memory at a time."""
        return sum(self.attention.weights(b.earlier(number), mix) for number in self.numbers) / len(self.numbers)
