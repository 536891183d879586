"""An attention that reads another block: CSA of the last block beside the q-k map of an earlier one."""

from mmseg.registry import MODELS
from torch import Tensor

from mmseg_sclip.models import BlockInput
from mmseg_sclip.models.attention import CorrelativeSelfAttention


@MODELS.register_module()
class MyEarlierAttention(CorrelativeSelfAttention):
    """CSA, and one more term: CLIP's own attention logits in an earlier block.

    Args:
        block: Counts from 1; negative numbers count from the end, -2 is the last block but one.
    """

    def __init__(self, block: int = -2) -> None:
        super().__init__(projections=('q', 'k'))
        self.block = block

    def bind(self, tower) -> None:
        """The input of block l is the output of block l - 1, so that is what must be recorded."""
        super().bind(tower)
        self.needs |= {tower.block_number(self.block) - 1}

    def terms(self, b: BlockInput) -> list[Tensor]:
        """Three (B, heads, N, N) terms, each with a softmax of its own."""
        source = b.earlier(self.block)
        return [*super().terms(b), source.q @ source.k.transpose(-1, -2) * source.scale]
