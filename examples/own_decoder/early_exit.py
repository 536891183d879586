"""A decoder from outside the package: the output of an earlier block, without any block behind it."""

from mmseg.registry import MODELS

from mmseg_sclip.models import Decoder, Tokens


@MODELS.register_module()
class MyEarlyExit(Decoder):
    """Project the output of one block.

    Args:
        block: Counts from 1; negative numbers count from the end, -2 is the last block but one.
    """

    def __init__(self, block: int = -2) -> None:
        super().__init__()
        self.block = block

    def bind(self, tower) -> None:
        """Settle what is recorded; the tower runs to this block and no further."""
        self.block = tower.block_number(self.block)
        self.needs = frozenset({self.block})

    def forward(self, tower, memory, grid, feedback=None) -> Tokens:
        """The final LayerNorm and the projection on `memory[block]`, (B, N, width)."""
        tokens = tower.project(memory[self.block])  # (B, N, D)
        return Tokens(tokens[:, tower.prefix :], tokens[:, 0], grid)
