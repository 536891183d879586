"""How the last blocks are rebuilt."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from ..streams import BlockInput, Feedback, Memory, Tokens

if TYPE_CHECKING:
    from ..clip.tower import VisionTower


class Decoder(nn.Module):
    """Which blocks are rebuilt, and how the streams run through them.

    Attributes:
        needs: Block outputs that `forward` reads from memory; final after `bind`.
        passes: How often `forward` runs over one record; from the second pass on with feedback.
    """

    needs: frozenset[int] = frozenset()
    passes: int = 1

    def bind(self, tower: VisionTower) -> None:
        """Learn the tower's shape, and bind the attention; parameters are made here."""
        raise NotImplementedError(f'{type(self).__name__} must define bind(tower).')

    def block_input(
        self, tower: VisionTower, number: int, memory: Memory, feedback: Feedback | None = None
    ) -> BlockInput:
        """What the decoder's attention sees in block `number`, from 1; here the recorded stream.

        Pictures of attention are made from it. A decoder whose last block looks at a stream of its own gives that.
        """
        return tower.block_input(number, memory, feedback)

    def forward(self, tower: VisionTower, memory: Memory, feedback: Feedback | None = None) -> Tokens:
        """Rebuild the last block(s) on the recorded streams.

        Args:
            tower: The image tower.
            memory: Block outputs (B, N, width) by block number, the images of the windows and the patch grid.
            feedback: What the pass before has computed, or None.
        """
        raise NotImplementedError(f'{type(self).__name__} must define forward(tower, memory, feedback).')
