"""Redundancy purification: classes that the attention does not confirm are taken out (FreeCP, ICCV 2025)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated

import torch
from mmseg.registry import MODELS
from torch import Tensor

from ....checks import build_strategy
from ....rules import Between, Positive
from ...affinity import Affinity
from ...attention.sinkhorn import sinkhorn
from ...heads.maps import MapHead
from ...image.scores import MapScores, PixelScores
from ...precision import without_autocast
from ...tokens import Tokens
from .components import fill_boxes

_ROUNDS = 3  # of balancing


@dataclass
class Purified:
    """The maps of the foreground queries of each image.

    Attributes:
        boxes: (B, F, h, w), bool, where a query is sought.
        refined: (B, F, h, w), in 0..1, the maps after the affinity.
        agreement: (B, F), how much a map and the probabilities have in common, in 0..0.5.
    """

    boxes: Tensor
    refined: Tensor
    agreement: Tensor


def purify(probabilities: Tensor, foreground: Tensor, affinity: Tensor, box_thd: float = 0.4) -> Purified:
    """Spread the probabilities of each query inside its boxes over the affinity, and compare with what they were.

    Args:
        probabilities: (B, Q, h, w), over the queries, those of the background included.
        foreground: (Q,), bool.
        affinity: (B, n, n), attention between patches.
        box_thd: Share of a query's largest probability that patches of its boxes exceed.
    """
    low, high = probabilities.amin(dim=(1, 2, 3), keepdim=True), probabilities.amax(dim=(1, 2, 3), keepdim=True)
    maps = (probabilities - low) / (high - low).clamp(min=torch.finfo(low.dtype).tiny)
    probabilities, maps = probabilities[:, foreground], maps[:, foreground]  # (B, F, h, w)
    levels = (255 * maps).floor()  # the official code makes pictures of 8 bits
    cut = (box_thd * levels.amax(dim=(2, 3), keepdim=True).double()).floor()
    boxes = fill_boxes((levels > cut).flatten(0, 1)).view_as(maps)

    # In float64: twice over an even affinity, what is left of the differences between patches is small.
    affinity = sinkhorn(affinity.double(), _ROUNDS)
    affinity = (affinity + affinity.transpose(1, 2)) / 2
    refined = (maps * boxes).flatten(2).double() @ affinity @ affinity  # (B, F, n); the affinity is symmetric
    low, high = refined.amin(dim=2, keepdim=True), refined.amax(dim=2, keepdim=True)
    refined = ((refined - low) / (high - low + 1e-8)).to(maps.dtype).view_as(maps)

    both = (probabilities * refined).sum(dim=(2, 3))
    each = probabilities.sum(dim=(2, 3)) + refined.sum(dim=(2, 3))
    return Purified(boxes, refined, both / (each + 1e-8))


@MODELS.register_module()
class RedundancyPurificationHead(MapHead):
    """FreeCP's redundancy purification (ICCV 2025, first stage) on the tokens of any decoder.

    In each window, the probabilities of a query, p, cut to the bounding boxes of their strong patches, are spread over
    CLIP's own attention between patches: r. Only queries whose soft overlap sum(p r) / (sum(p) + sum(r)) exceeds a
    threshold keep their map r; the others are 0 in this window. Windows are averaged; the background, where there is
    one, has 1 minus the largest map. The second stage, which needs texts of a language model, is left out.

    The official code has one phrase for each class of the foreground; here each phrase is purified for itself, and
    the best one of a class counts.

    Args:
        affinity: Config of an `Affinity`; left out, a `MeanAttention`.
        redundancy_thd: What the overlap must exceed; 0.5 is its largest possible value.
        scale: Multiplies the cosines before the softmax over the queries; None for the factor that CLIP was trained
            with, which is 100 in OpenAI's weights.
        box_thd: Share of a query's largest probability in the window that patches of its boxes exceed.
        **kwargs: Of `TextSimilarityHead`.
    """

    def __init__(
        self,
        redundancy_thd: Annotated[float, Between(0, 0.5)] = 0.1,
        scale: Annotated[float, Positive] | None = None,
        box_thd: Annotated[float, Between(0, 1)] = 0.4,
        affinity: Mapping | None = None,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        self.redundancy_thd = redundancy_thd
        self.scale = scale
        self.box_thd = box_thd
        affinity = dict(type='MeanAttention') if affinity is None else affinity
        self.affinity = build_strategy('decode_head.affinity', affinity, Affinity)

    def forward(self, features: Tokens) -> Tensor:
        """Purified maps (B, Q, h, w) of the windows; 0 for dropped queries and for those of the background.

        Args:
            features: Tokens with the record that they were made of.

        Raises:
            ConfigError: They have none.
        """
        affinity = self.record_of(features).once(self.affinity)
        with without_autocast(affinity.device):
            cosines = self.query_cosines(features)
            foreground = self.foreground.to(cosines.device)
            probabilities = (cosines * (self.scale or self.text_encoder.logit_scale)).softmax(dim=1)
            purified = purify(probabilities, foreground, affinity, self.box_thd)
            kept = purified.agreement > self.redundancy_thd
            maps = torch.zeros_like(cosines)
            maps[:, foreground] = purified.refined * kept[:, :, None, None]
            return maps

    def pixel_rule(self, scores: PixelScores | MapScores) -> Callable[[Tensor], Tensor] | None:
        """Phrases of the background have 1 minus the largest map; None where there is no background."""
        foreground = self.foreground.to(scores.device)
        if foreground.all():
            return None
        return lambda band: torch.where(foreground[:, None, None], band, 1 - band[foreground].amax(dim=0, keepdim=True))
