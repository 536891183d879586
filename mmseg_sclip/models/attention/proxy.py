"""ProxyCLIP's attention: patches attend where a second network finds them alike (ECCV 2024)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from mmseg.registry import MODELS
from torch import Tensor
from torch.nn import functional as F

from ..precision import without_autocast
from ..record import BlockInput, Record
from .companion_grid import CompanionAttention


@MODELS.register_module()
class ProxyAttention(CompanionAttention):
    """softmax(gamma (S - beta mean S)) of the cosines S of a companion's features, one map for all heads.

    Pairs below beta mean S are left out (ProxyCLIP, arXiv 2408.04883, section 3.3). Cells of an image without structure
    are all below it; each attends to itself then, where the official code has NaN. The official mean is that of all
    windows of a batch; here it does not depend on the batch.

    Args:
        companion: The name of the second network in `model.companions`.
        features: Which of its `Features` are compared.
        beta: Multiplies the mean.
        gamma: Multiplies the distance from it.
        mean_over: 'window' takes the mean of each window, 'image' that of all windows of an image.
    """

    def __init__(
        self,
        companion: str = 'dino',
        features: Literal['map', 'queries', 'keys', 'values'] = 'map',
        beta: float = 1.2,
        gamma: float = 3.0,
        mean_over: Literal['window', 'image'] = 'window',
    ) -> None:
        super().__init__(companion)
        self.features = features
        self.beta = beta
        self.gamma = gamma
        self.mean_over = mean_over
        self.all_windows = mean_over == 'image'

    def unit_features(self, record: Record) -> Tensor:
        """Unit features of the cells (B, n, C), float32, so that S is their product with themselves."""
        features = record.companion(self.companion).get(self.features)
        return F.normalize(features.flatten(2).transpose(1, 2).float(), dim=-1)

    def means(self, record: Record, features: Tensor) -> Tensor:
        """Mean of S (B, 1, 1) that each window is measured with, from `unit_features`; the diagonal counts, too."""
        mean = features.mean(dim=1).square().sum(dim=1)  # S itself is not needed for it
        if self.mean_over == 'image' and record.places:
            image = torch.tensor([place.image for place in record.places], device=mean.device)
            same = (image[:, None] == image).float()
            mean = same @ mean / same.sum(dim=1)
        return mean[:, None, None]

    def logits(self, features: Tensor, means: Tensor) -> Tensor:
        """Logits (B, n, n) of cells with `unit_features`; pairs below zero are to be left out."""
        logits = (features @ features.transpose(1, 2)).sub_(self.beta * means).mul_(self.gamma)
        logits.diagonal(dim1=1, dim2=2).clamp_(min=0)  # without structure all are below zero
        return logits

    def weights(self, b: BlockInput, mix: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """The map (B, 1, n, n), rows sum to 1. `mix` acts on the logits before pairs are left out."""
        self.check_grid(b)
        with without_autocast(b.v.device):
            features = self.unit_features(b.record)
            logits = self.logits(features, self.means(b.record, features))
            return _kept(logits if mix is None else mix(logits[:, None])[:, 0])[:, None]

    def attend(self, b: BlockInput) -> Tensor:
        """The same as `weights(b) @ b.v`, in which one map at a time is in memory and none is copied for the heads."""
        self.check_grid(b)
        values = b.v.transpose(1, 2).flatten(2)  # (B, n, heads * head_dim)
        with without_autocast(b.v.device):
            features = self.unit_features(b.record)
            attended = [
                _kept(self.logits(own[None], mean[None])).to(value.dtype)[0] @ value
                for own, mean, value in zip(features, self.means(b.record, features), values, strict=True)
            ]
        return torch.stack(attended).unflatten(2, (b.v.shape[1], -1)).transpose(1, 2)


def _kept(logits: Tensor) -> Tensor:
    """The softmax over the last axis, without what is below zero."""
    return logits.masked_fill(logits < 0, -torch.inf).softmax(dim=-1)
