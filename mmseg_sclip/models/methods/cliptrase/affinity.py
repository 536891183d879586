"""CLIPtrase's decoder: the last block with another attention, and how alike the patches are before it (ECCV 2024)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from mmseg.registry import MODELS
from torch import Tensor
from torch.nn import functional as F

from ....errors import ConfigError
from ...decoders.last_block import LastBlock
from ...precision import without_autocast
from ...streams import BlockInput, Feedback, Memory, Tokens

if TYPE_CHECKING:
    from ...clip.tower import VisionTower


@MODELS.register_module()
class LastBlockWithAffinity(LastBlock):
    """`LastBlock`, whose tokens carry an affinity of the patches, for `SegmentVoting`.

    Patches are alike where their queries, keys and values in an earlier block are. What the class token has in common
    with a patch, all others are expected to have too, so it is subtracted.

    Args:
        attention: See `LastBlock`.
        residual: See `LastBlock`.
        ffn: See `LastBlock`.
        keys: See `LastBlock`.
        affinity_block: The earlier block, from 1; negative numbers count from the end. CLIPtrase takes the last but
            one.
    """

    def __init__(
        self,
        attention: Mapping,
        residual: bool = True,
        ffn: bool = True,
        keys: bool = False,
        affinity_block: int = -2,
    ) -> None:
        super().__init__(attention, residual, ffn, keys)
        self.affinity_block = affinity_block

    def bind(self, tower: VisionTower) -> None:
        """Record the input of the earlier block too.

        Raises:
            ConfigError: There is no such block.
        """
        super().bind(tower)
        self.affinity_block = tower.block_number(self.affinity_block)
        if self.affinity_block == 0:
            raise ConfigError(f'affinity_block is 0, which is no block. Give one of 1 to {tower.depth}.')
        self.needs |= {self.affinity_block - 1}

    def forward(self, tower: VisionTower, memory: Memory, feedback: Feedback | None = None) -> Tokens:
        """The tokens of `LastBlock`; their affinity (B, n, n) is float32."""
        b = tower.block_input(self.affinity_block, memory)
        affinity = without_class_token(token_similarity(b), b.prefix)
        return replace(super().forward(tower, memory, feedback), affinity=affinity)


def token_similarity(b: BlockInput) -> Tensor:
    """The mean of the cosines of queries, of keys and of values, over all heads: (B, N, N), float32."""
    with without_autocast(b.q.device):
        streams = torch.cat([F.normalize(x.float(), dim=-1) for x in (b.q, b.k, b.v)], dim=1)
        flat = streams.transpose(1, 2).flatten(2)  # (B, N, 3 * width), so that one product is the sum over heads
        return flat @ flat.transpose(1, 2) / streams.shape[1]


def without_class_token(similarity: Tensor, prefix: int) -> Tensor:
    """(B, N, N) to the patches' (B, n, n): less the class token's row in every row, and not below 0."""
    patches = similarity[:, prefix:, prefix:]
    return (patches - similarity[:, :1, prefix:]).clamp(min=0)
