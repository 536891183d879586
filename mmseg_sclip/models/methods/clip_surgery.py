"""CLIP Surgery's scores: what all classes have in common is taken out (arXiv 2304.05653, section 3.3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
from mmseg.registry import MODELS
from torch import Tensor
from torch.nn import functional as F

from ...rules import Positive
from ..heads.text_similarity import TextSimilarityHead
from ..image.postprocess import min_max
from ..tokens import Tokens


def feature_surgery(cosines: Tensor, cls_cosines: Tensor, factor: float = 2.0) -> Tensor:
    """Weight each class by how much the image shows of it, and subtract the mean of all classes.

    The product of a patch and a text vector, weighted and less its mean over the classes, summed over the channels, is
    the same number from the cosines alone: w_c cos_c - mean_c'(w_c' cos_c'). The best class is that of w_c cos_c.

    Args:
        cosines: (B, Q, h, w), of the patches.
        cls_cosines: (B, Q), of the class token.
        factor: Multiplies the class token's cosines before their softmax.

    Returns:
        (B, Q, h, w).
    """
    weights = (cls_cosines * factor).softmax(dim=1) * cls_cosines.shape[1]  # their mean over the classes is 1
    weighted = cosines * weights[:, :, None, None]
    return weighted - weighted.mean(dim=1, keepdim=True)


def similarity_map(scores: Tensor, size: Sequence[int]) -> Tensor:
    """CLIP Surgery's heat maps: each class from 0 to 1 over the patches of an image, then enlarged bilinearly.

    Args:
        scores: (B, Q, h, w).
        size: (height, width) of the maps.

    Returns:
        (B, Q, height, width), 0..1; 0 where a class has the same score everywhere.
    """
    return F.interpolate(min_max(scores), size=tuple(size), mode='bilinear', align_corners=False)


@MODELS.register_module()
class FeatureSurgeryHead(TextSimilarityHead):
    """Text similarity with CLIP Surgery's feature surgery.

    With many classes it weights them by the class token of each window (`feature_surgery`). With `redundant`, the way
    for one class or a few that need not cover the image, the score of that phrase is subtracted from every class's.

    Args:
        factor: Of the class token's cosines, see `feature_surgery`.
        redundant: A phrase that stands for what all texts have in common, the official code's is ''; None for the mean
            over the classes.
        **kwargs: Of `TextSimilarityHead`.

    Attributes:
        redundant_feature: (D,), unit norm, of that phrase; None until it is encoded. A vector may be set.
    """

    redundant_feature: Tensor | None

    def __init__(self, factor: Annotated[float, Positive] = 2.0, redundant: str | None = None, **kwargs) -> None:
        super().__init__(**kwargs)
        self.factor = factor
        self.redundant = redundant
        self.needs_class_token = redundant is None  # it weights the classes
        self.register_buffer('redundant_feature', None, persistent=False)

    def encode_redundant(self, device: torch.device) -> Tensor:
        """(1, D), unit norm: the vector of the redundant phrase, encoded where it is not yet."""
        if self.redundant_feature is None:
            self.redundant_feature = self.text_encoder.encode([self.redundant or ''], self.templates, device)[0]
        return self.redundant_feature[None].to(device)

    def forward(self, features: Tokens) -> Tensor:
        """Scores (B, Q, h, w), float32."""
        cosines = super().forward(features)
        if self.redundant is not None:
            return cosines - self.cosines(features, self.encode_redundant(cosines.device))
        assert features.cls is not None  # `needs_class_token`
        return feature_surgery(cosines, super().forward(features.cls[..., None, None]).flatten(1), self.factor)
