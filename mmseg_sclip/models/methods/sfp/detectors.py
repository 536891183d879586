"""Ways to find the patches whose tokens stand out before the last block."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import torch
from mmseg.registry import MODELS
from torch import Tensor

from ....rules import AtLeast, Between
from ...parts import Part
from ...record import Record
from ..sc_clip.outliers import highest_share, local_outlier_scores

if TYPE_CHECKING:
    from ...towers.image import ImageTower


class OutlierDetector(Part):
    """Finds outliers among the patches before the last block."""

    def bind(self, tower: ImageTower) -> None:
        """Learn the tower's shape: what is looked at is the output of the last block but one."""
        super().bind(tower)
        self.block = tower.depth - 1
        self.needs |= {self.block}

    def forward(self, record: Record) -> Tensor:
        """(B, n), bool: which patches of a record are outliers."""
        raise NotImplementedError(f'{type(self).__name__} must define forward(record).')


@MODELS.register_module()
class AttentionOutliers(OutlierDetector):
    """Patches that the class token looks at more than they look at themselves (SFP's self-adaptive mitigator).

    Args:
        count: At most so many, those that the class token looks at most.
        gain: Multiplies what the class token looks at. SFP's code takes 5 times the weight that it gives to the class
            token in the last block, 0.3.
    """

    def __init__(self, count: Annotated[int, AtLeast(1)] = 10, gain: float = 1.5) -> None:
        super().__init__()
        self.count = count
        self.gain = gain

    def bind(self, tower: ImageTower) -> None:
        """Ask for the input of the last block but one, too."""
        super().bind(tower)
        self.needs |= {self.block - 1}

    def looks(self, record: Record) -> tuple[Tensor, Tensor]:
        """How much the class token looks at each patch, times the gain, and each patch at itself: (B, n) each."""
        b = record.block_input(self.block)
        dtype = torch.promote_types(b.q.dtype, torch.float32)
        weights = (b.q @ b.k.transpose(-1, -2) * b.scale).softmax(dim=-1, dtype=dtype).mean(dim=1)  # (B, N, N)
        return self.gain * weights[:, 0, b.prefix :], weights.diagonal(dim1=1, dim2=2)[:, b.prefix :]

    def forward(self, record: Record) -> Tensor:
        """(B, n), bool: at most `count` in each image, maybe none."""
        of_class, of_itself = self.looks(record)
        candidates = of_class > of_itself
        return candidates & highest(of_class.masked_fill(~candidates, -torch.inf), self.count)


@MODELS.register_module()
class NormOutliers(OutlierDetector):
    """The patches with the longest tokens.

    Args:
        count: So many.
    """

    def __init__(self, count: Annotated[int, AtLeast(1)] = 10) -> None:
        super().__init__()
        self.count = count

    def forward(self, record: Record) -> Tensor:
        """(B, n), bool: `count` in each image."""
        return highest(record.patches(self.block).float().norm(dim=-1), self.count)


@MODELS.register_module()
class DensityOutliers(OutlierDetector):
    """The patches with the largest local outlier factor, as SC-CLIP computes it.

    Args:
        neighbours: Nearest tokens that each token is compared with.
        share: Of the patches, in 0..1.
    """

    def __init__(
        self, neighbours: Annotated[int, AtLeast(1)] = 30, share: Annotated[float, Between(0, 1)] = 0.05
    ) -> None:
        super().__init__()
        self.neighbours = neighbours
        self.share = share

    def forward(self, record: Record) -> Tensor:
        """(B, n), bool.

        Raises:
            ConfigError: There are too few patches to compare with.
        """
        return highest_share(local_outlier_scores(record.patches(self.block), self.neighbours), self.share)


def highest(scores: Tensor, count: int) -> Tensor:
    """(B, n), bool: the `count` largest of the scores (B, n) in each row, or all."""
    places = scores.topk(min(count, scores.shape[1]), dim=1)[1]
    return torch.zeros_like(scores, dtype=torch.bool).scatter_(1, places, True)
