"""How the last blocks are rebuilt, and what comes out of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor, nn

from ..attention.base import Feedback

if TYPE_CHECKING:
    from ..clip.tower import Memory, VisionTower


@dataclass
class Tokens:
    """Projected tokens of one pass, not normalised.

    Attributes:
        patches: (B, n, D), rows of the grid first.
        cls: (B, D), the class token of the decoder's own choice, or None.
        grid: (h, w) in patches; n = h * w.
        keys: (B, n, width), keys of the last block behind its output projection, where asked for.
    """

    patches: Tensor
    cls: Tensor | None
    grid: tuple[int, int]
    keys: Tensor | None = None

    @property
    def map(self) -> Tensor:
        """The patches as a map (B, D, h, w)."""
        return self.patches.transpose(1, 2).unflatten(2, self.grid)


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

    def forward(
        self, tower: VisionTower, memory: Memory, grid: tuple[int, int], feedback: Feedback | None = None
    ) -> Tokens:
        """Rebuild the last block(s) on the recorded streams.

        Args:
            tower: The image tower.
            memory: Block outputs (B, N, width) by block number.
            grid: (h, w) in patches.
            feedback: The findings of the pass before, or None.
        """
        raise NotImplementedError(f'{type(self).__name__} must define forward(tower, memory, grid, feedback).')
