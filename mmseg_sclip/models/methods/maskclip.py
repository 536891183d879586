"""MaskCLIP's two refinements of dense scores (MaskCLIP, section 3.3)."""

from __future__ import annotations

from typing import Annotated

import torch
from mmseg.registry import MODELS
from torch import Tensor
from torch.nn import functional as F

from ...rules import Between
from ..affinity import Affinity
from ..heads.text_similarity import TextSimilarityHead
from ..precision import without_autocast
from ..record import Record
from ..tokens import Tokens
from ..towers.image import ImageTower

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


def smooth_by_keys(cosines: Tensor, affinity: Tensor, threshold: float) -> Tensor:
    """Give unsure patches the probabilities of all patches, weighted by the cosine of their keys.

    The official code normalises the keys over the tokens instead of the channels, which is an error of a
    default argument; here they are normalised over the channels, as the paper says. The weights of a
    patch are not normalised, in the paper as here.

    Args:
        cosines: (B, Q, h, w).
        affinity: (B, h * w, h * w), the cosines of the keys.
        threshold: Patches whose largest probability is below it are smoothed; the paper's is 1.

    Returns:
        (B, Q, h, w), probabilities, smoothed ones unnormalised.
    """
    probabilities = (cosines * _SCALE).softmax(dim=1).flatten(2)  # (B, Q, n)
    with without_autocast(affinity.device):
        smoothed = probabilities @ affinity  # which is symmetric
    unsure = probabilities.amax(dim=1, keepdim=True) < threshold
    return torch.where(unsure, smoothed, probabilities).unflatten(2, cosines.shape[2:])


@MODELS.register_module()
class KeySimilarity(Affinity):
    """The cosines of the keys of the last block, after its output projection."""

    def bind(self, tower: ImageTower) -> None:
        """Ask for the input of the last block."""
        super().bind(tower)
        self.needs |= {tower.depth - 1}

    def forward(self, record: Record) -> Tensor:
        """(B, n, n), float32."""
        tower = record.tower
        keys = tower.merge_heads(tower.depth, record.block_input(tower.depth).k)[:, tower.prefix :]
        with without_autocast(keys.device):
            keys = F.normalize(keys.float(), dim=-1)
            return keys @ keys.transpose(1, 2)


@MODELS.register_module()
class MaskCLIPHead(TextSimilarityHead):
    """Text similarity with prompt denoising and key smoothing, both over all patches of a whole image.

    Args:
        pd_thresh: Threshold of `denoise_prompts`; None for off.
        ks_thresh: Threshold of `smooth_by_keys`; None for off.
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
        if ks_thresh is not None:
            self.affinity = KeySimilarity()

    @property
    def needs_whole_image(self) -> bool:
        """Both refinements compare the patches of the whole image; windows would be refined each for itself."""
        return self.pd_thresh is not None or self.ks_thresh is not None

    def forward(self, features: Tokens | tuple[Tensor] | Tensor) -> Tensor:
        """Scores (B, Q, h, w): cosines, or probabilities where keys smooth them.

        Raises:
            ConfigError: `ks_thresh` is set and the features do not have the record that they were made of.
        """
        scores = super().forward(features)
        if self.pd_thresh is not None:
            scores = denoise_prompts(scores, self.pd_thresh)
        if self.ks_thresh is not None:
            scores = smooth_by_keys(scores, self.record_of(features).once(self.affinity), self.ks_thresh)
        return scores
