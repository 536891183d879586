"""ResCLIP's first part: CLIP's own attention of middle blocks, added to that of the last one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

import torch
from mmseg.registry import MODELS
from torch import Tensor
from torch.nn import functional as F

from ....checks import build_strategy
from ....rules import Between
from ...attention.base import Attention
from ...record import BlockInput

if TYPE_CHECKING:
    from ...towers.image import ImageTower


@MODELS.register_module()
class ResidualCrossCorrelation(Attention):
    """gain ((1 - share) A + share R), A another attention and R the mean of softmax(s q k^T) over middle blocks.

    This is the residual cross-correlation self-attention, RCS, of ResCLIP (arXiv 2411.15851, section 3.2).

    Args:
        base: Config of the attention A; a `SemanticFeedback` for the whole method.
        share: Of R, in 0..1: the paper's lambda_rcs.
        gain: Multiplies the map: the paper's tau_rcs. Rows sum to it where those of A sum to 1.
        blocks: Of R, from 1, or negative from the end. The official code takes the same ones at any depth.
    """

    def __init__(
        self,
        base: Mapping,
        share: Annotated[float, Between(0, 1)] = 0.3,
        gain: float = 2.0,
        blocks: Sequence[int] = (6, 7, 8, 9),
    ) -> None:
        super().__init__()
        self.base = build_strategy('ResidualCrossCorrelation.base', base, Attention)
        self.share = share
        self.gain = gain
        self.blocks = tuple(blocks)

    def bind(self, tower: ImageTower) -> None:
        """Ask for the inputs of the middle blocks.

        Raises:
            ConfigError: There is no such block, or none is named.
        """
        super().bind(tower)
        self.blocks = tower.blocks_named('ResidualCrossCorrelation.blocks', self.blocks)
        self.needs |= {number - 1 for number in self.blocks}

    def weights(self, b: BlockInput, mix: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """The map (B, heads, N, N); `mix` acts on the terms of the base."""
        maps = [
            (source.q @ source.k.transpose(-1, -2) * source.scale).softmax(dim=-1, dtype=torch.float32)
            for source in map(b.earlier, self.blocks)
        ]
        return self._mix(self.base.weights(b, mix), sum(maps))

    def attend(self, b: BlockInput) -> Tensor:
        """The same as `weights(b) @ b.v`, without R in memory."""
        attended = [
            F.scaled_dot_product_attention(source.q, source.k, b.v, scale=source.scale)
            for source in map(b.earlier, self.blocks)
        ]
        return self._mix(self.base.attend(b), sum(attended))

    def _mix(self, base: Tensor, total: Tensor | int) -> Tensor:
        return self.gain * ((1 - self.share) * base + self.share / len(self.blocks) * total)
