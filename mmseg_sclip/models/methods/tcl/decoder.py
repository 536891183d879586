"""TCL's two branches: the frozen CLIP, and what was trained on top of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mmseg.registry import MODELS
from torch import Tensor

from ...decoders.base import Decoder
from ...record import Feedback, Record
from ...tokens import Tokens
from .masker import STAGES, identity_block
from .source import TclTower

if TYPE_CHECKING:
    from ...towers.image import ImageTower


@dataclass
class MaskTokens(Tokens):
    """Vectors of the trained branch, four to a patch on each side.

    Attributes:
        frozen: (B, D, h, w), those of the frozen branch, one to a patch, not normalised.
    """

    frozen: Tensor = field(kw_only=True)


@MODELS.register_module()
class MaskDecoder(Decoder):
    """Run CLIP's last block and the trained copy of it with identity attention, and the latter's decoder.

    Source: arXiv 2212.00785, section 3.2; the frozen branch is that of its refinement of masks.
    """

    decodes = TclTower
    gives = MaskTokens
    gives_class_token = False
    places = 2**STAGES

    def bind(self, tower: ImageTower) -> None:
        """Ask for the input of the last block."""
        super().bind(tower)
        self.needs |= {tower.depth - 1}

    def forward(self, record: Record, feedback: Feedback | None = None) -> MaskTokens:
        """`patches` (B, 4h * 4w, D) and `frozen`; there is no class token."""
        tower, (height, width) = record.tower, record.grid
        assert isinstance(tower, TclTower)
        x = record[tower.depth - 1]
        frozen = tower.project(identity_block(tower.block(tower.depth), x)[:, tower.prefix :])
        return MaskTokens(
            tower.masker(x, record.grid),
            None,
            (self.places * height, self.places * width),
            frozen=frozen.transpose(1, 2).unflatten(2, record.grid),
        )
