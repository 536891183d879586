"""TCL's masks: one for each phrase, between 0 and 1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
from mmseg.registry import MODELS
from torch import Tensor
from torch.nn import functional as F

from ....rules import AtLeast, Between, NotEmpty
from ...heads.maps import MapHead
from ...record import Record
from ...refinements.pamr import pamr
from ...tokens import Tokens
from .decoder import MaskTokens
from .source import TclTower

_SHARPNESS, _CENTRE = 10.0, 0.25  # of the frozen branch's cosines


@MODELS.register_module()
class MaskHead(MapHead):
    """Masks from cosines, refined by the colours of the window, and mixed with those of the frozen CLIP.

    m = sigmoid(w cos + b) with learned numbers, then PAMR, then m <- share k + (1 - share) m, where k is
    sigmoid(10 (cos - 0.25)) of the frozen branch (arXiv 2212.00785, sections 3.2 and 4). The background's score is a
    constant.

    Args:
        background: Score of the background class at every pixel, where `background_index` names one.
        pamr_steps: Iterations of PAMR; 0 leaves it out, for which the paper has `background=0.5`.
        dilations: Of PAMR, in places of the mask, which are a quarter of a patch.
        frozen_share: The share of the frozen branch.
        **kwargs: Of `TextSimilarityHead`.
    """

    takes = MaskTokens

    def __init__(
        self,
        background: Annotated[float, Between(0, 1)] = 0.4,
        pamr_steps: Annotated[int, AtLeast(0)] = 10,
        dilations: Annotated[Sequence[Annotated[int, AtLeast(1)]], NotEmpty] = (1, 2, 4, 8, 12, 24),
        frozen_share: Annotated[float, Between(0, 1)] = 0.3,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        self.background = background
        self.pamr_steps = pamr_steps
        self.dilations = tuple(dilations)
        self.frozen_share = frozen_share

    def forward(self, features: Tokens) -> Tensor:
        """Masks (B, Q, 4h, 4w), 0 to 1, float32."""
        record, foreground = self.record_of(features), self.foreground
        assert isinstance(features, MaskTokens) and isinstance(record.tower, TclTower)
        masker, bank = record.tower.masker, self.score_bank(features.patches.device)[foreground]
        masks = torch.sigmoid(masker.slope * self.cosines(features, bank) + masker.offset)
        masks = self.refine(masks, record)
        frozen = torch.sigmoid(_SHARPNESS * (self.cosines(features.frozen, bank) - _CENTRE))
        frozen = F.interpolate(frozen, features.grid, mode='bilinear')
        scores = masks.new_full((len(masks), self.out_channels, *features.grid), self.background)
        scores[:, foreground] = self.frozen_share * frozen + (1 - self.frozen_share) * masks
        return scores

    def refine(self, masks: Tensor, record: Record) -> Tensor:
        """PAMR on the masks (B, K, 4h, 4w) of the windows of a record; see `pamr`."""
        if not self.pamr_steps:
            return masks
        seen = (side * patch for side, patch in zip(record.grid, record.tower.patch_size, strict=True))
        height, width = seen  # what is left of a window whose sides are not multiples of a patch
        images = record.images[..., :height, :width].float()
        images = F.interpolate(images, masks.shape[2:], mode='bilinear', align_corners=True)
        return torch.stack(
            [pamr(image, mask, self.pamr_steps, self.dilations) for image, mask in zip(images, masks, strict=True)]
        )
