"""MaskCLIP's two refinements of dense scores (MaskCLIP, section 3.3)."""

from __future__ import annotations

from typing import Annotated

import torch
from mmseg.registry import MODELS
from torch import Tensor
from torch.nn import functional as F

from ...errors import ConfigError
from ...rules import Between
from ..heads.text_similarity import TextSimilarityHead
from ..precision import without_autocast
from ..streams import Tokens

_SCALE = 100  # of cosines inside both refinements
_ABSENT = -100.0  # the score of a denoised query


def denoise_prompts(cosines: Tensor, threshold: float) -> Tensor:
    """Rule out queries that are nowhere sure: their largest probability in the image is below `threshold`.

    Args:
        cosines: (B, Q, h, w).
        threshold: Probability in 0..1; the paper's is 0.5.

    Returns:
        (B, Q, h, w), -100 where a query is ruled out.
    """
    sure = (cosines * _SCALE).softmax(dim=1).amax(dim=(2, 3), keepdim=True) >= threshold
    return torch.where(sure, cosines, _ABSENT)


def smooth_by_keys(cosines: Tensor, keys: Tensor, threshold: float) -> Tensor:
    """Give unsure patches the probabilities of all patches, weighted by the cosine of their keys.

    The official code normalises the keys over the tokens instead of the channels, which is an error of a
    default argument; here they are normalised over the channels, as the paper says. The weights of a
    patch are not normalised, in the paper as here.

    Args:
        cosines: (B, Q, h, w).
        keys: (B, h * w, width).
        threshold: Patches whose largest probability is below it are smoothed; the paper's is 1.

    Returns:
        (B, Q, h, w), probabilities, smoothed ones unnormalised.
    """
    probabilities = (cosines * _SCALE).softmax(dim=1).flatten(2)  # (B, Q, n)
    with without_autocast(keys.device):
        keys = F.normalize(keys.float(), dim=-1)
        smoothed = probabilities @ (keys @ keys.transpose(1, 2))  # the weights are symmetric
    unsure = probabilities.amax(dim=1, keepdim=True) < threshold
    return torch.where(unsure, smoothed, probabilities).unflatten(2, cosines.shape[2:])


@MODELS.register_module()
class MaskCLIPHead(TextSimilarityHead):
    """Text similarity with prompt denoising and key smoothing, both over all patches of a whole image.

    Args:
        pd_thresh: Threshold of `denoise_prompts`; None for off.
        ks_thresh: Threshold of `smooth_by_keys`; None for off. The decoder must give keys: LastBlock(keys=True).
        **kwargs: Of `TextSimilarityHead`.
    """

    def __init__(
        self,
        pd_thresh: Annotated[float, Between(0, 1)] | None = None,
        ks_thresh: Annotated[float, Between(0, 1)] | None = None,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        self.pd_thresh = pd_thresh
        self.ks_thresh = ks_thresh

    @property
    def needs_whole_image(self) -> bool:
        """Both refinements compare the patches of the whole image; windows would be refined each for itself."""
        return self.pd_thresh is not None or self.ks_thresh is not None

    def forward(self, features: Tokens | tuple[Tensor] | Tensor) -> Tensor:
        """Scores (B, Q, h, w): cosines, or probabilities where keys smooth them.

        Raises:
            ConfigError: `ks_thresh` is set and the features have no keys.
        """
        scores = super().forward(features)
        if self.pd_thresh is not None:
            scores = denoise_prompts(scores, self.pd_thresh)
        if self.ks_thresh is not None:
            keys = getattr(features, 'keys', None)
            if not isinstance(keys, Tensor):
                raise ConfigError(
                    'decode_head.ks_thresh needs keys, which the decoder does not give. Set '
                    "backbone=dict(decoder=dict(type='LastBlock', keys=True, ...)), or ks_thresh=None."
                )
            scores = smooth_by_keys(scores, keys, self.ks_thresh)
        return scores
