"""The seam of attentions on the grid of a second network, to which what CLIP's block holds is resized."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from ...errors import ConfigError
from ..record import BlockInput, Feedback, Record
from .base import Attention

Grid = tuple[int, int]


class CompanionAttention(Attention):
    """An attention among the cells of a companion's grid, without a class token.

    Args:
        companion: The name of the second network in `model.companions`.
    """

    def __init__(self, companion: str) -> None:
        super().__init__()
        self.companion = companion
        self.companions = frozenset({companion})

    def block_input(self, number: int, record: Record, feedback: Feedback | None = None) -> BlockInput:
        """What it sees of a block: queries, keys and values of the patches, resized to the companion's grid."""
        b = record.block_input(number, feedback=feedback)
        grid = record.companion(self.companion).grid
        q, k, v = (resize_heads(x, b.prefix, b.grid, grid) for x in (b.q, b.k, b.v))
        x = resize_heads(b.x[:, None], b.prefix, b.grid, grid)[:, 0]
        return BlockInput(q, k, v, x, b.scale, record, feedback, grid, 0)

    def check_grid(self, b: BlockInput) -> None:
        """Refuse a block's input that is not on the companion's grid.

        Raises:
            ConfigError: Another decoder has made it.
        """
        if b.prefix or b.grid != b.record.companion(self.companion).grid:
            raise ConfigError(
                f"{type(self).__name__} attends on the grid of the companion '{self.companion}', which its decoder "
                "must give. Take decoder=dict(type='CompanionGrid', attention=...)."
            )


def resize_heads(x: Tensor, prefix: int, grid: Grid, new: Grid) -> Tensor:
    """Tokens of heads on another grid: (B, heads, prefix + h * w, head_dim) to (B, heads, h' * w', head_dim).

    Bilinear, without aligned corners; the tokens in front of the patches are left out. A grid that stays is a view.

    Args:
        x: The tokens, rows first.
        prefix: How many stand in front of the patches.
        grid: (h, w).
        new: (h', w').
    """
    x = x[:, :, prefix:]
    if grid == new:
        return x
    heads = x.shape[1]
    maps = x.transpose(1, 2).flatten(2).transpose(1, 2).unflatten(2, grid)  # (B, heads * head_dim, h, w)
    maps = F.interpolate(maps, new, mode='bilinear', align_corners=False)
    return maps.flatten(2).transpose(1, 2).unflatten(2, (heads, -1)).transpose(1, 2)
