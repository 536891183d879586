"""A decoder of two streams: CLIP's own runs through its last blocks, and a second one collects their attention."""

from mmseg.registry import MODELS

from mmseg_sclip.checks import build_strategy
from mmseg_sclip.models import Attention, Decoder, Tokens


@MODELS.register_module()
class MyTwoStreams(Decoder):
    """Add up what another attention makes of CLIP's own stream in each of the last blocks, without feed-forward parts.

    Args:
        attention: Config of an `Attention`.
        blocks: How many of the last blocks have the second stream.
    """

    def __init__(self, attention: dict, blocks: int = 3) -> None:
        super().__init__()
        self.attention = build_strategy('backbone.decoder.attention', attention, Attention)
        self.blocks = blocks

    def bind(self, tower) -> None:
        """Ask for the input of each of these blocks; what the attention asks for is added by the base class."""
        super().bind(tower)
        self.numbers = range(tower.depth - self.blocks + 1, tower.depth + 1)
        self.needs |= {number - 1 for number in self.numbers}

    def forward(self, record, feedback=None) -> Tokens:
        """Carry the second stream, (B, N, width), from the input of the first of these blocks to the projection."""
        tower = record.tower
        stream = record[self.numbers[0] - 1]
        for number in self.numbers:
            b = self.block_input(number, record, feedback)  # of CLIP's stream
            stream = stream + tower.attention_branch(number, self.attention.attend(b))
        tokens = tower.project(stream)  # (B, N, D)
        return Tokens(tokens[:, tower.prefix :], tokens[:, 0], record.grid)
