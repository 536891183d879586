"""SC-CLIP's attention in the last block: patches attend where a middle block finds them alike, and where keys are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Literal

import torch
from mmseg.registry import MODELS
from torch import Tensor
from torch.nn import functional as F

from ....rules import AtLeast, Between
from ...attention.base import Attention
from ...record import BlockInput, Record
from .outliers import cosine_affinity, highest_share, local_outlier_scores, repair_tokens

if TYPE_CHECKING:
    from ...towers.image import ImageTower


@MODELS.register_module()
class SelfCalibratedAttention(Attention):
    """The mean of two softmaxes over patches (SC-CLIP, arXiv 2411.15869, section 3.3).

    The first one, shared by all heads, is of sharpness (S - mean S), where S are the cosines of the patches in a middle
    block and pairs below the mean are left out; the second one is of the scaled products of the keys. Patches that are
    outliers before the last block are repaired in the middle block, too. The class token takes no part.

    Args:
        affinity_block: The middle block, from 1, or negative from the end. The paper's values are 9 of 12 and 17 of 24.
        sharpness: Multiplies the cosines' distance from their mean.
        neighbours: Nearest tokens that an outlier's score compares a patch with.
        outlier_share: Share of an image's patches that are taken for outliers, in 0..1.

    Attributes:
        streams: Of 'q' and 'k', those whose products with themselves have a softmax of their own.
        level_streams: The same for the sum of the middle blocks.
        empty: What an outlier becomes that has outliers around it only; see `repair_tokens`.
    """

    streams: tuple[str, ...] = ('k',)
    level_streams: tuple[str, ...] = ('k',)
    empty: Literal['keep', 'zero'] = 'keep'

    def __init__(
        self,
        affinity_block: int = 9,
        sharpness: float = 3.0,
        neighbours: Annotated[int, AtLeast(1)] = 30,
        outlier_share: Annotated[float, Between(0, 1)] = 0.05,
    ) -> None:
        super().__init__()
        self.affinity_block = affinity_block
        self.sharpness = sharpness
        self.neighbours = neighbours
        self.outlier_share = outlier_share

    def bind(self, tower: ImageTower) -> None:
        """Ask for the output of the middle block, and of the last but one, where outliers are sought."""
        super().bind(tower)
        self.affinity_block = tower.block_number(self.affinity_block)
        self.outlier_block = tower.depth - 1
        self.needs |= {self.affinity_block, self.outlier_block}

    def outliers(self, record: Record) -> Tensor:
        """(B, n), bool: the patches that stand out before the last block.

        Raises:
            ConfigError: There are too few patches to compare with.
        """
        scores = local_outlier_scores(record.patches(self.outlier_block), self.neighbours)
        return highest_share(scores, self.outlier_share)

    def affinity(self, record: Record, outliers: Tensor) -> Tensor:
        """S (B, n, n), float32: cosines of the repaired patches of the middle block."""
        patches = record.patches(self.affinity_block)
        return cosine_affinity(repair_tokens(patches, outliers, record.grid, self.empty))

    def shared(self, affinity: Tensor) -> Tensor:
        """The map of all heads (B, n, n) from S (B, n, n)."""
        logits = self.sharpness * (affinity - affinity.mean(dim=(1, 2), keepdim=True))
        # Of equal patches rounding can put all cosines below their mean; each still attends to itself.
        logits.diagonal(dim1=1, dim2=2).clamp_(min=0)
        return logits.masked_fill_(logits < 0, -torch.inf).softmax(dim=-1)

    def attend_patches(self, b: BlockInput, shared: Tensor, streams: Sequence[str]) -> Tensor:
        """The attended values of the patches (B, heads, n, head_dim).

        Args:
            b: The block's input.
            shared: (B, n, n), the map of all heads.
            streams: `self.streams`, or `self.level_streams`.
        """
        v = b.v[:, :, b.prefix :]
        merged = shared.to(v.dtype) @ v.transpose(1, 2).flatten(2)  # (B, n, heads * head_dim), no copy of the map
        total = merged.unflatten(2, (v.shape[1], -1)).transpose(1, 2)
        for name in streams:
            x = getattr(b, name)[:, :, b.prefix :]
            total = total + F.scaled_dot_product_attention(x, x, v, scale=b.scale)
        return total / (1 + len(streams))

    def weights(self, b: BlockInput, mix: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """The map (B, heads, N, N), rows sum to 1; the class token attends to itself only. `mix` acts on products."""
        total = self.shared(self.affinity(b.record, self.outliers(b.record)))[:, None]
        for name in self.streams:
            x = getattr(b, name)[:, :, b.prefix :]
            logits = x @ x.transpose(-1, -2) * b.scale  # (B, heads, n, n)
            total = total + (logits if mix is None else mix(logits)).softmax(dim=-1, dtype=torch.float32)
        weights = F.pad(total / (1 + len(self.streams)), (b.prefix, 0, b.prefix, 0))
        weights[:, :, range(b.prefix), range(b.prefix)] = 1
        return weights
