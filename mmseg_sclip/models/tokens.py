"""What a decoder gives to the head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from torch import Tensor
from torch.nn import functional as F

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


@dataclass
class GroupTokens(Tokens):
    """What a network that groups patches says of windows; see `GroupTokens.of`.

    Attributes:
        groups: (B, G, D), the projected vectors of the groups, not normalised.
        image: (B, D), the projected vector of the whole window, not normalised.
        maps: (B, G, h, w), how much of each patch belongs to each group; over the groups they add up to 1.
    """

    groups: Tensor
    image: Tensor
    maps: Tensor

    @classmethod
    def of(cls, groups: Tensor, image: Tensor, maps: Tensor) -> GroupTokens:
        """Tokens whose patches are the groups' vectors in the shares of the maps, and whose class token is the image.

        Args:
            groups: As above.
            image: As above.
            maps: As above.
        """
        patches = maps.flatten(2).transpose(1, 2).to(groups.dtype) @ groups
        return cls(patches, image, (maps.shape[2], maps.shape[3]), groups, image, maps)

    def owners(self, size: Sequence[int]) -> Tensor:
        """(B, H, W), int64: the group whose map, enlarged to `size` (H, W), is largest at each pixel."""
        return F.interpolate(self.maps.float(), tuple(size), mode='bilinear', align_corners=False).max(dim=1)[1]
