"""The decoder of CLIP Surgery and GEM: a path beside CLIP's own that collects the attention of several blocks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

from mmseg.registry import MODELS

from ...checks import build_strategy
from ...errors import ConfigError
from ...rules import AtLeast
from ..attention.base import Attention
from ..record import Feedback, Record
from ..tokens import Tokens
from .base import Decoder

if TYPE_CHECKING:
    from ..towers.image import ImageTower


@MODELS.register_module()
class ParallelPath(Decoder):
    """Add up what another attention makes of CLIP's own stream in each of the last blocks.

    CLIP's stream runs on unchanged. The path starts as the input x of the first of these blocks, and each block l adds
    O_l(attention(LN1_l(x_l))) to it, x_l being its input in CLIP's stream: y = x + sum over l. The path has no
    feed-forward parts (CLIP Surgery, section 3.2; GEM, section 3).

    Args:
        attention: Config of an `Attention`.
        blocks: How many of the last blocks take part. CLIP Surgery and GEM take 6 (their code calls it a depth of 7).
        residual: Start the path as x. Without it the path is the sum alone: ClearCLIP's last blocks.
        original_cls: Give out the class token of CLIP's own stream, as CLIP Surgery, in place of the path's.
    """

    def __init__(
        self,
        attention: Mapping,
        blocks: Annotated[int, AtLeast(1)] = 6,
        residual: bool = True,
        original_cls: bool = False,
    ) -> None:
        super().__init__()
        self.attention = build_strategy('backbone.decoder.attention', attention, Attention)
        self.blocks = blocks
        self.residual = residual
        self.original_cls = original_cls

    def bind(self, tower: ImageTower) -> None:
        """Ask for the inputs of the last blocks.

        Raises:
            ConfigError: The tower has fewer blocks than take part.
        """
        if self.blocks > tower.depth:
            raise ConfigError(
                f'backbone.decoder.blocks is {self.blocks}, but this image tower has {tower.depth} blocks. Give a '
                'number up to that; CLIP Surgery and GEM take the last half of 12.'
            )
        super().bind(tower)
        self.numbers = range(tower.depth - self.blocks + 1, tower.depth + 1)
        self.needs |= {number - 1 for number in self.numbers} | ({tower.depth} if self.original_cls else set())

    def forward(self, record: Record, feedback: Feedback | None = None) -> Tokens:
        """Carry the path (B, N, width) from the input of its first block to the projection."""
        tower = record.tower
        path: Any = record[self.numbers[0] - 1] if self.residual else 0
        for number in self.numbers:
            b = self.block_input(number, record, feedback)
            path = path + tower.attention_branch(number, self.attention.attend(b))
        if self.original_cls:
            cls = tower.project(record[tower.depth][:, 0])
            return Tokens(tower.project(path[:, tower.prefix :]), cls, record.grid)
        tokens = tower.project(path)
        return Tokens(tokens[:, tower.prefix :], tokens[:, 0], record.grid)
