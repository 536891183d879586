"""Any decoder, with the affinity of the patches beside its tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mmseg.registry import MODELS
from torch import Tensor

from ....checks import build_strategy, check_choice, check_whole
from ...attention.base import Attention
from ...attention.vanilla import VanillaSelfAttention
from ...decoders.base import Decoder
from ...streams import BlockInput, Feedback, Memory, Tokens

if TYPE_CHECKING:
    from ...clip.tower import VisionTower


@MODELS.register_module()
class WithMeanAttention(Decoder):
    """Another decoder's tokens, with CLIP's own attention between patches, averaged over all blocks before the last.

    Heads such as `RedundancyPurificationHead` look at it. Rows do not sum to 1, since the class token's share is cut
    off.

    Args:
        decoder: Config of the other `Decoder`.
        head: The number of the one attention head that is taken, from 1, as the official code of FreeCP does by a
            slip for GEM; None for the mean of all heads, which is meant.

    Attributes:
        attention: The other decoder's.
    """

    def __init__(self, decoder: Mapping, head: int | None = None) -> None:
        super().__init__()
        if head is not None:
            check_whole('backbone.decoder.head', head, least=1)
        self.decoder = build_strategy('backbone.decoder.decoder', decoder, Decoder)
        self.head = head
        self._vanilla = VanillaSelfAttention()

    @property
    def attention(self) -> Attention:
        """The attention of the other decoder."""
        return self.decoder.attention

    def __setattr__(self, name: str, value: Any) -> None:
        if name == 'attention':  # who exchanges the attention means the other decoder's
            self.decoder.attention = value
        else:
            super().__setattr__(name, value)

    def bind(self, tower: VisionTower) -> None:
        """Bind the other decoder; the inputs of all blocks are recorded."""
        if self.head is not None:
            check_choice('backbone.decoder.head', self.head, range(1, tower.heads + 1))
        self.decoder.bind(tower)
        self.passes = self.decoder.passes
        self.needs = self.decoder.needs | frozenset(range(tower.depth - 1))

    def block_input(
        self, tower: VisionTower, number: int, memory: Memory, feedback: Feedback | None = None
    ) -> BlockInput:
        """What the attention of the other decoder sees."""
        return self.decoder.block_input(tower, number, memory, feedback)

    def forward(self, tower: VisionTower, memory: Memory, feedback: Feedback | None = None) -> Tokens:
        """The other decoder's tokens; their affinity is computed from the last pass on only, (B, n, n)."""
        tokens = self.decoder(tower, memory, feedback)
        if self.passes > 1 and feedback is None:
            return tokens
        return replace(tokens, affinity=self._affinity(tower, memory))

    def _affinity(self, tower: VisionTower, memory: Memory) -> Tensor:
        """(B, n, n), float32, block by block, so that one block's maps are held at a time."""
        total: Any = 0
        for number in range(1, tower.depth):
            weights = self._vanilla.weights(tower.block_input(number, memory))
            weights = weights.mean(dim=1) if self.head is None else weights[:, self.head - 1]  # (B, N, N)
            total = total + weights
        return total[:, tower.prefix :, tower.prefix :] / (tower.depth - 1)
