"""The decoder of Trident's windows: ProxyCLIP's, which also gives what the projection has not seen yet."""

from __future__ import annotations

from dataclasses import dataclass

from mmseg.registry import MODELS
from torch import Tensor

from ...decoders.companion_grid import CompanionGrid
from ...record import Feedback, Record
from ...tokens import Tokens


@dataclass
class UnprojectedTokens(Tokens):
    """Tokens, beside what they are projected from.

    Attributes:
        stream: (B, n, width), the output of the last block, before the final LayerNorm and the projection.
    """

    stream: Tensor


@MODELS.register_module()
class UnprojectedGrid(CompanionGrid):
    """`CompanionGrid`, whose tokens a `model.stitch` may change before they are projected.

    Without such a step the tokens are those of ProxyCLIP.
    """

    gives = UnprojectedTokens

    def forward(self, record: Record, feedback: Feedback | None = None) -> UnprojectedTokens:
        """See `CompanionGrid`."""
        tower = record.tower
        b = self.block_input(tower.depth, record, feedback)
        stream = tower.attention_branch(tower.depth, self.attention.attend(b))
        return UnprojectedTokens(tower.project(stream), None, b.grid, stream)
