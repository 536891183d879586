"""What a decoder gives to the head."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from .record import Record


@dataclass
class Tokens:
    """Projected tokens, not normalised.

    Attributes:
        patches: (B, n, D), row by row.
        cls: (B, D), the class token of the decoder's own choice, or None.
        grid: (h, w) in patches; n = h * w.
        record: What they were made of, for heads that look at more than tokens; `Decoder.run` sets it.
    """

    patches: Tensor
    cls: Tensor | None
    grid: tuple[int, int]
    record: Record | None = field(default=None, repr=False, kw_only=True)

    @property
    def map(self) -> Tensor:
        """The patches as a map (B, D, h, w)."""
        return self.patches.transpose(1, 2).unflatten(2, self.grid)
