"""The decoder of SCLIP and most of its family: the last block with another attention."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from mmseg.registry import MODELS

from ...checks import build_strategy
from ..attention.base import Attention
from ..streams import Feedback, Memory, Tokens
from .base import Decoder

if TYPE_CHECKING:
    from ..clip.tower import VisionTower


@MODELS.register_module()
class LastBlock(Decoder):
    """Rebuild the last block with an attention of choice.

    Args:
        attention: Config of an `Attention`.
        residual: Add the block's input to the attention's output. SCLIP keeps it.
        ffn: Run the block's feed-forward part behind it. SCLIP keeps it.
        keys: Give out the keys too, for `MaskCLIPHead`.
    """

    def __init__(self, attention: Mapping, residual: bool = True, ffn: bool = True, keys: bool = False) -> None:
        super().__init__()
        self.attention = build_strategy('backbone.decoder.attention', attention, Attention)
        self.residual = residual
        self.ffn = ffn
        self.keys = keys

    def bind(self, tower: VisionTower) -> None:
        """Bind the attention and settle what is recorded."""
        self.attention.bind(tower)
        self.passes = self.attention.passes
        self.needs = frozenset({tower.depth - 1}) | tower.block_numbers(self.attention.needs)

    def forward(self, tower: VisionTower, memory: Memory, feedback: Feedback | None = None) -> Tokens:
        """Run the last block on `memory[depth - 1]`; `cls` is the rebuilt block's own class token."""
        last = tower.depth
        b = self.block_input(tower, last, memory, feedback)
        x = tower.attention_branch(last, self.attention.attend(b))
        if self.residual:
            x = x + memory[last - 1]
        if self.ffn:
            x = x + tower.feed_forward_branch(last, x)
        tokens = tower.project(x)
        keys = tower.merge_heads(last, b.k)[:, tower.prefix :] if self.keys else None
        return Tokens(tokens[:, tower.prefix :], tokens[:, 0], memory.grid, keys)
