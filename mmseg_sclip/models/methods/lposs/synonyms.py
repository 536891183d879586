"""The largest score of a class's phrases, taken before scores are brought to the original size."""

from __future__ import annotations

import torch
from mmseg.registry import MODELS
from torch import Tensor

from ...refinements.base import COSINES, ImageView, Refinement


@MODELS.register_module()
class SynonymMaximum(Refinement):
    """Every phrase of a class gets the largest score of the class's phrases, at the size of the network's input.

    As the official code of LPOSS (CVPR 2025) does with the words of the background. Without it the largest score is
    taken at the original size. A phrase that stands for several classes keeps its own scores.
    """

    stage = COSINES
    at_input = True

    def refine(self, scores: Tensor, view: ImageView) -> Tensor:
        """Change the cosines (P, H, W) of the distinct phrases."""
        sizes, queries = view.head.vocabulary.sizes, view.head.phrase_of_query
        phrases = torch.arange(len(scores)) if queries is None else queries
        shared = phrases.bincount() > 1
        merged = scores
        for members in phrases.split(list(sizes)):
            alone = members[~shared[members]]
            if len(members) > 1 and len(alone):
                merged = scores.clone() if merged is scores else merged
                merged[alone.to(scores.device)] = scores[members.to(scores.device)].amax(dim=0)
        return merged
