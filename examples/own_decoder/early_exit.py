"""A decoder from outside the package: the output of an earlier block, without any block after it."""

from mmseg.registry import MODELS

from mmseg_sclip.models import Decoder, Tokens


@MODELS.register_module()
class MyEarlyExit(Decoder):
    """Project the output of one block.

    Args:
        block: The number of the block, from 1; negative numbers count from the end, -2 is the last block but one.
    """

    def __init__(self, block: int = -2) -> None:
        super().__init__()
        self.block = block

    def bind(self, tower) -> None:
        """Settle what is recorded; the tower runs to this block and no further."""
        super().bind(tower)
        self.number = tower.block_number(self.block)
        self.needs |= {self.number}

    def forward(self, record, feedback=None) -> Tokens:
        """Run the final LayerNorm and the projection on `record[number]`, (B, N, width)."""
        tower = record.tower
        tokens = tower.project(record[self.number])  # (B, N, D)
        return Tokens(tokens[:, tower.prefix :], tokens[:, 0], record.grid)
