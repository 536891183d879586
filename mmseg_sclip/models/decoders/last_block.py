"""The decoder of SCLIP and most of its family: the last block with another attention."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from mmseg.registry import MODELS

from ...checks import build_strategy
from ...errors import ConfigError
from ..attention.base import Attention
from ..record import Feedback, Record
from ..tokens import Tokens
from .base import Decoder

if TYPE_CHECKING:
    from ..towers.image import ImageTower


@MODELS.register_module()
class LastBlock(Decoder):
    """Rebuild the last block with an attention of choice.

    Args:
        attention: Config of an `Attention`.
        residual: Add the block's input to the attention's output. SCLIP keeps it.
        ffn: Run the block's feed-forward part after it. SCLIP keeps it.
    """

    moved = {'keys': 'MaskCLIPHead(ks_thresh=...) reads the keys itself, so take keys out'}

    def __init__(self, attention: Mapping, residual: bool = True, ffn: bool = True) -> None:
        super().__init__()
        self.attention = build_strategy('backbone.decoder.attention', attention, Attention)
        self.residual = residual
        self.ffn = ffn

    def bind(self, tower: ImageTower) -> None:
        """Ask for the input of the last block.

        Raises:
            ConfigError: The tower's block has nothing that the attention's output could be added to.
        """
        super().bind(tower)
        if not tower.has_branches and (self.residual or self.ffn):
            raise ConfigError(
                f'The last block of this {type(tower).__name__} is an attention alone: it has no residual and no '
                'feed-forward part. Set residual=False and ffn=False in model.backbone.decoder.'
            )
        self.needs |= {tower.depth - 1}

    def forward(self, record: Record, feedback: Feedback | None = None) -> Tokens:
        """Run the last block on its recorded input; `cls` is its own class token, where there is one."""
        tower = record.tower
        last = tower.depth
        x = tower.attention_branch(last, self.attention.attend(self.block_input(last, record, feedback)))
        if self.residual:
            x = x + record[last - 1]
        if self.ffn:
            x = x + tower.feed_forward_branch(last, x)
        tokens = tower.project(x)
        return Tokens(tokens[:, tower.prefix :], tokens[:, 0] if tower.prefix else None, record.grid)
