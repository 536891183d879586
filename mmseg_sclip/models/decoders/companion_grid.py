"""The decoder of ProxyCLIP and of what builds on it: the last block on the grid of a second network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from mmseg.registry import MODELS

from ...checks import build_strategy
from ..attention.companion_grid import CompanionAttention
from ..record import BlockInput, Feedback, Record
from ..tokens import Tokens
from .base import Decoder

if TYPE_CHECKING:
    from ..towers.image import ImageTower


@MODELS.register_module()
class CompanionGrid(Decoder):
    """The attention of the last block on the grid of a companion, without residual and feed-forward part.

    The values of the last block are resized to that grid, so the tokens, too, and what they score, live on it. There is
    no class token (ProxyCLIP, arXiv 2408.04883).

    Args:
        attention: Config of a `CompanionAttention`, which names the companion.
    """

    attends = CompanionAttention
    gives_class_token = False

    def __init__(self, attention: Mapping) -> None:
        super().__init__()
        self.attention = build_strategy('backbone.decoder.attention', attention, CompanionAttention)

    def bind(self, tower: ImageTower) -> None:
        """Ask for the input of the last block."""
        super().bind(tower)
        self.needs |= {tower.depth - 1}

    def block_input(self, number: int, record: Record, feedback: Feedback | None = None) -> BlockInput:
        """What the attention sees: the block on the companion's grid."""
        return self.attention.block_input(number, record, feedback)

    def forward(self, record: Record, feedback: Feedback | None = None) -> Tokens:
        """Run the last block's attention; the tokens are on the companion's grid."""
        tower = record.tower
        b = self.block_input(tower.depth, record, feedback)
        x = tower.attention_branch(tower.depth, self.attention.attend(b))
        return Tokens(tower.project(x), None, b.grid)
