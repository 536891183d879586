"""The head of CLIPer: maps of all layers together, spread over the affinity (CLIPer, ICCV 2025, without diffusion)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import torch
from mmseg.registry import MODELS
from torch import Tensor
from torch.nn import functional as F

from ....errors import ConfigError
from ....rules import Between, Positive
from ...heads.maps import MapHead
from ...image.scores import MapScores, PixelScores
from ...precision import without_autocast
from ...towers.image import ImageTower
from .decoder import LayerTokens


@MODELS.register_module()
class EarlyLayerFusionHead(MapHead):
    """CLIPer's maps, on the tokens of `EarlyLayerFusion`.

    In every layer, the probabilities of each patch over all phrases and the mean vector of the foreground's phrases
    give S_k (F, n); those of one layer are cut, and spread over the affinity A: S A + mean_k S_k. A class whose map is
    nowhere above `score_thd` is not in the image. The others' maps are brought to their largest value at the pixels,
    and `test_cfg.prob_thd` decides what is background.

    Args:
        scale: Multiplies the cosines before the softmax over the phrases.
        layer: The layer that is spread over the affinity, from 0, or negative from the end; -2 for ViT-L/14.
        attention_thd: Values below this share of a query's largest one are cut to 0 in this layer.
        score_thd: What the largest value of a class must exceed.
        min_max: Bring each map to 0..1 over the image, as CLIPer does for VOC21.
        **kwargs: Of `TextSimilarityHead`.
    """

    takes = LayerTokens

    def __init__(
        self,
        scale: Annotated[float, Positive] = 100,
        layer: int = -1,
        attention_thd: Annotated[float, Between(0, 1)] = 0.2,
        score_thd: Annotated[float, Between(0, 1)] = 0,
        min_max: bool = False,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        self.scale = scale
        self.layer = layer
        self.attention_thd = attention_thd
        self.score_thd = score_thd
        self.min_max = min_max

    def bind(self, tower: ImageTower) -> None:
        """Look for the layer; there is one for each block of the tower.

        Raises:
            ConfigError: There is no layer of this number.
        """
        super().bind(tower)
        if not -tower.depth <= self.layer < tower.depth:
            raise ConfigError(
                f'decode_head.layer is {self.layer}, but the decoder gives {tower.depth} layers: 0 to '
                f'{tower.depth - 1}, or -{tower.depth} to -1 from the end.'
            )

    @property
    def needs_whole_image(self) -> bool:
        """The largest value of a class is that in the whole image; windows are an option of the decoder."""
        return True

    def forward(self, features: LayerTokens) -> Tensor:
        """Maps (B, Q, h, w), not negative; 0 for the phrases of the background.

        Args:
            features: Of an `EarlyLayerFusion`.
        """
        layers, affinity = features.layers, features.affinity
        with without_autocast(layers.device):
            texts = self.score_bank(layers.device)  # (Q, D)
            foreground = self.foreground.to(texts.device)
            mean = F.normalize(texts[foreground].mean(dim=0, keepdim=True), dim=-1)
            products = layers.float() @ torch.cat([texts, mean]).T  # (B, views, K, n, Q + 1)
            maps = (self.scale * products).softmax(dim=-1)[..., :-1][..., foreground].mean(dim=1)
            maps = maps.transpose(2, 3)  # (B, K, F, n)
            chosen = maps[:, self.layer]
            cut = self.attention_thd * chosen.amax(dim=-1, keepdim=True)
            chosen.masked_fill_(chosen < cut, 0)  # in place: the mean has the cut map too
            fused = chosen @ affinity.float() + maps.mean(dim=1)  # (B, F, n)
            result = fused.new_zeros(len(fused), len(texts), *features.grid)
            result[:, foreground] = fused.unflatten(2, features.grid)
            return result

    def pixel_rule(self, scores: PixelScores | MapScores) -> Callable[[Tensor], Tensor]:
        """Bring each map to its largest value at a patch, or to 0..1; classes that are not in the image have 0."""
        peaks, maps = scores.peaks(), scores.phrases()  # (Q,), (Q, H, W)
        low, high = maps.amin(dim=(1, 2)), maps.amax(dim=(1, 2))
        factor = peaks / (high + 1e-5)
        if self.min_max:
            factor = factor / (factor * (high - low) + 1e-6)
        else:
            low = torch.zeros_like(low)
        factor = (factor * (peaks > self.score_thd))[:, None, None]
        # Where all others are 0 the background is larger.
        least = torch.where(self.foreground.to(low.device), 0, torch.finfo(low.dtype).tiny)[:, None, None]
        return lambda band: torch.maximum((band - low[:, None, None]) * factor, least)
