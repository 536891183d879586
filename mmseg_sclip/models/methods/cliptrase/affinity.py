"""CLIPtrase's affinity: how alike patches are before the last block (ECCV 2024)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from mmseg.registry import MODELS
from torch import Tensor
from torch.nn import functional as F

from ...affinity import Affinity
from ...precision import without_autocast
from ...record import BlockInput, Record

if TYPE_CHECKING:
    from ...towers.image import ImageTower


@MODELS.register_module()
class TokenSimilarity(Affinity):
    """Patches are alike where their queries, keys and values in an earlier block are.

    What the class token has in common with a patch, all others are expected to have too, so it is subtracted.

    Args:
        block: The earlier block, from 1; negative numbers count from the end. CLIPtrase takes the last but one.
    """

    def __init__(self, block: int = -2) -> None:
        super().__init__()
        self.block = block

    def bind(self, tower: ImageTower) -> None:
        """Ask for the input of the block.

        Raises:
            ConfigError: There is no such block.
        """
        super().bind(tower)
        (self.block,) = tower.blocks_named('affinity.block', [self.block])
        self.needs |= {self.block - 1}

    def forward(self, record: Record) -> Tensor:
        """(B, n, n), float32, not negative."""
        return without_class_token(token_similarity(record.block_input(self.block)), record.tower.prefix)


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
