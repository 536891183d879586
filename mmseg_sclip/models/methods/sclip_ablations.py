"""SCLIP's ablations of the last block's attention (SCLIP, Table 3), and an attention averaged over blocks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

import torch
from mmseg.registry import MODELS
from torch import Tensor

from ...checks import build_strategy
from ...rules import AtLeast, NotEmpty, Odd, Positive
from ..attention.base import Attention, ProductAttention
from ..attention.vanilla import VanillaSelfAttention
from ..record import BlockInput

if TYPE_CHECKING:
    from ..towers.image import ImageTower


@MODELS.register_module()
class LocalSelfAttention(VanillaSelfAttention):
    """CLIP's attention, in which a patch sees only the window x window patches around it.

    The class token sees itself only, and no patch sees it, so a window of 1 is MaskCLIP.

    Args:
        window: Side in patches, odd.
    """

    def __init__(self, window: Annotated[int, AtLeast(1), Odd] = 3) -> None:
        super().__init__()
        self.window = window

    def prior(self, b: BlockInput) -> Tensor:
        """(N, N): 0 where a token may look, minus infinity elsewhere."""
        rows, cols = (torch.arange(side, device=b.q.device) for side in b.grid)
        places = torch.cartesian_prod(rows, cols)  # (n, 2)
        near = (places[:, None] - places[None]).abs().amax(-1) <= self.window // 2
        seen = torch.eye(b.prefix + len(places), dtype=torch.bool, device=b.q.device)
        seen[b.prefix :, b.prefix :] = near
        return torch.zeros(seen.shape, dtype=b.q.dtype, device=b.q.device).masked_fill_(~seen, float('-inf'))


@MODELS.register_module()
class EarlierAttention(ProductAttention):
    """softmax(s q k^T) of another block, applied to the values of this one.

    Args:
        block: The number of that block, from 1, or negative from the end; -1, the last block, is CLIP itself.
    """

    def __init__(self, block: int = 3) -> None:
        super().__init__()
        self.block = block

    def bind(self, tower: ImageTower) -> None:
        """Ask for the output of the block before it.

        Raises:
            ConfigError: The tower has no such block.
        """
        super().bind(tower)
        (number,) = tower.blocks_named('EarlierAttention.block', [self.block])
        self.needs |= {number - 1}

    def pairs(self, b: BlockInput) -> list[tuple[Tensor, Tensor, float]]:
        """Queries with keys of the other block."""
        source = b.earlier(self.block)
        return [(source.q, source.k, source.scale)]


@MODELS.register_module()
class SharpenedSelfAttention(VanillaSelfAttention):
    """softmax(temperature * s q k^T); 1 is CLIP, more is sharper.

    The paper does not say whether its tau multiplies or divides; it is read as a factor, since its text
    calls larger values sharper.

    Args:
        temperature: The factor, positive.
    """

    def __init__(self, temperature: Annotated[float, Positive] = 2.0) -> None:
        super().__init__()
        self.temperature = temperature

    def pairs(self, b: BlockInput) -> list[tuple[Tensor, Tensor, float]]:
        """Queries with keys, at the other temperature."""
        return [(queries, keys, self.temperature * scale) for queries, keys, scale in super().pairs(b)]


@MODELS.register_module()
class BlockMeanAttention(Attention):
    """The mean over blocks of an attention's maps, applied to the values of this block only.

    Each map is made from the queries, keys and values of its own block in CLIP's untouched stream. With the default it
    is the mean over all blocks of softmax(s k k^T).

    Args:
        attention: Config of the `Attention` that is averaged.
        blocks: Their numbers, from 1, or negative from the end; None for all.
    """

    def __init__(
        self, attention: Mapping | None = None, blocks: Annotated[Sequence[int], NotEmpty] | None = None
    ) -> None:
        super().__init__()
        if attention is None:
            attention = dict(type='CorrelativeSelfAttention', projections='k')
        self.attention = build_strategy('BlockMeanAttention.attention', attention, Attention)
        self.blocks = blocks

    def bind(self, tower: ImageTower) -> None:
        """Ask for the inputs of the blocks.

        Raises:
            ConfigError: The tower has no such block, or a block is named twice.
        """
        super().bind(tower)
        blocks = range(1, tower.depth + 1) if self.blocks is None else self.blocks
        self.numbers = tower.blocks_named('BlockMeanAttention.blocks', blocks)
        self.needs |= {number - 1 for number in self.numbers}

    def weights(self, b: BlockInput, mix: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """The mean of the maps, (B, heads or 1, N, N); one block's map is in memory at a time."""
        return sum(self.attention.weights(b.earlier(number), mix) for number in self.numbers) / len(self.numbers)
