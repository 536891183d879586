"""Scores of networks that group patches: each pixel has those of the group that owns it (GroupViT, CVPR 2022)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
from mmseg.registry import MODELS
from torch import Tensor
from torch.nn import functional as F

from ...rules import AtLeast, Between
from ..image.postprocess import best_of_class
from ..precision import without_autocast
from ..tokens import GroupTokens
from .maps import MapHead

_LARGEST_SCALE = 100.0  # of the cosines, as in training


def paint_values(
    groups: Tensor, image: Tensor, texts: Tensor, sizes: Sequence[int], scale: float, top_classes: int
) -> Tensor:
    """What each group says of each class: the product of two softmaxes over the classes.

    The first is over all classes, the second over those that the whole image resembles most; others get 0. A class
    with several phrases counts with the one that is nearest to the vector.

    Args:
        groups: (B, G, D), projected.
        image: (B, D), projected.
        texts: (Q, D), unit norm.
        sizes: Phrases of each of the C classes, those of a class beside each other.
        scale: Multiplies the cosines.
        top_classes: How many classes of the image are kept.

    Returns:
        (B, G, C), in 0..1.
    """
    vectors = F.normalize(torch.cat([image[:, None], groups], dim=1).float(), dim=-1)
    cosines = (vectors @ texts.T).transpose(0, 2)  # (Q, 1 + G, B)
    best = best_of_class(cosines, sizes)
    affinity = scale * best.transpose(0, 2)  # (B, 1 + G, C)
    of_image, of_groups = affinity[:, :1], affinity[:, 1:]
    kept = of_image.topk(min(top_classes, len(sizes)), dim=-1).indices
    left_out = torch.ones_like(of_image, dtype=torch.bool).scatter_(2, kept, False)
    return of_groups.softmax(dim=-1) * of_groups.masked_fill(left_out, -torch.inf).softmax(dim=-1)


@MODELS.register_module()
class GroupPaintingHead(MapHead):
    """The painting rule of GroupViT (CVPR 2022, section 4.3), SegCLIP and OVSegmentor, on tokens of groups.

    A pixel of the window belongs to the group whose soft map, enlarged to the window, is largest there, and has the
    scores of this group, see `paint_values`. The background, where there is one, has no text: its score is 1 where the
    largest score of the pixel is below the smaller of `bg_thresh` and the largest score of any group of the window,
    and 0 elsewhere. Scores live at the pixels of the window, so that windows are averaged after this rule.

    The official codes have one phrase for each class; here a class with several counts with the nearest one.

    Args:
        bg_thresh: What the best score of a pixel must reach to be no background; without a background class it has no
            meaning.
        top_classes: Classes of the image that may be painted.
        **kwargs: Of `TextSimilarityHead`.
    """

    takes = GroupTokens
    at_pixels = True

    def __init__(
        self,
        bg_thresh: Annotated[float, Between(0, 1)] = 0.95,
        top_classes: Annotated[int, AtLeast(1)] = 5,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        self.bg_thresh = bg_thresh
        self.top_classes = top_classes

    def forward(self, features: GroupTokens) -> Tensor:
        """Scores (B, Q, H, W), float32, at the pixels of the windows; phrases of one class have the same.

        Raises:
            ConfigError: The tokens have no record, or there is no class but the background.
        """
        maps, values = self.factors(features)
        with without_autocast(maps.device):
            return torch.einsum('bghw,bgq->bqhw', maps, values)

    def factors(self, tokens: GroupTokens) -> tuple[Tensor, Tensor]:
        """Maps (B, G, H, W), 1 at the pixels that a group owns and 0 elsewhere, and `group_scores`."""
        owners = tokens.owners(self.record_of(tokens).images.shape[-2:])
        groups = torch.arange(tokens.groups.shape[1], device=owners.device)[:, None, None]
        return (owners[:, None] == groups).float(), self.group_scores(tokens)

    def group_scores(self, features: GroupTokens) -> Tensor:
        """(B, G, Q), float32: the scores of pixels that a group owns, those of the background included."""
        texts = self.score_bank(features.groups.device)
        sizes = [size for number, size in enumerate(self.vocabulary.sizes) if number != self.background_index]
        foreground = self.foreground.to(texts.device)
        scale = min(self.text_encoder.logit_scale, _LARGEST_SCALE)
        with without_autocast(texts.device):
            painted = paint_values(features.groups, features.image, texts[foreground], sizes, scale, self.top_classes)
            largest = painted.amax(dim=-1, keepdim=True)  # (B, G, 1)
            threshold = largest.amax(dim=1, keepdim=True).clamp(max=self.bg_thresh)
            values = (largest < threshold).float().repeat(1, 1, len(texts))
            values[:, :, foreground] = painted.repeat_interleave(torch.tensor(sizes, device=texts.device), dim=2)
            return values
