"""GEM's rule for the background: it has no words, and is where no class is sure ("Grounding Everything", CVPR 2024)."""

from __future__ import annotations

import torch
from mmseg.models import EncoderDecoder
from mmseg.registry import MODELS
from torch import Tensor

from ....errors import ConfigError
from ...heads.text_similarity import TextSimilarityHead
from ...image.postprocess import min_max
from ...refinements.base import COSINES, ImageView, Refinement


@MODELS.register_module()
class ForegroundOnly(Refinement):
    """Take the background's own phrases out of the softmax; `test_cfg.prob_thd` alone decides what is background.

    GEM brings the map of each phrase to 0..1 over the image first, so that a class that is weak everywhere is as large
    somewhere as one that is strong. Its rule: softmax over the foreground, and background where the largest probability
    is below a threshold that has to be searched for each number of classes. The official example compares all
    probabilities with the threshold in place of the largest; that is not copied.

    Args:
        min_max: Bring each map to 0..1. Then `test_cfg.logit_scale` multiplies these.
    """

    stage = COSINES
    last = True  # minus infinity cannot be averaged

    def __init__(self, min_max: bool = True) -> None:
        super().__init__()
        self.min_max = min_max

    def check(self, segmentor: EncoderDecoder) -> None:
        """Refuse a head or words that it cannot work with.

        Raises:
            ConfigError: A phrase belongs to the background and to another class, or the head gives class scores.
        """
        if segmentor.decode_head.gives_class_scores:
            raise ConfigError(
                f'ForegroundOnly compares cosines, but {type(segmentor.decode_head).__name__} gives class scores. Take '
                'it out of model.test_cfg.refine.'
            )
        background_phrases(segmentor.decode_head)

    def refine(self, scores: Tensor, view: ImageView) -> Tensor:
        """Scores (phrases, H, W); minus infinity, whose probability is 0, for the phrases of the background."""
        scores = min_max(scores) if self.min_max else scores
        background = torch.tensor(background_phrases(view.head), device=scores.device)
        return scores.masked_fill(background[:, None, None], float('-inf'))


def background_phrases(head: TextSimilarityHead) -> list[bool]:
    """Whether each distinct phrase belongs to the background.

    Raises:
        ConfigError: A phrase belongs to the background and to another class.
    """
    vocabulary, background = head.vocabulary, head.background_index
    own = set() if background is None else set(vocabulary.classes[background])
    others = {phrase for i, phrases in enumerate(vocabulary.classes) if i != background for phrase in phrases}
    if own & others:
        raise ConfigError(
            f"ForegroundOnly takes the background's phrases out, but {sorted(own & others)} of them name another "
            'class too. Give the background a single word of its own in the vocabulary.'
        )
    return [phrase in own for phrase in vocabulary.distinct]
