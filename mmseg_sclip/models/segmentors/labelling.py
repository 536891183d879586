"""Labels from scores in bands of rows: no map of all queries at all pixels is held.

The same as `postprocess`, whose functions say what is done; tests compare the two.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..postprocess import class_scores, large_classes
from .resampling import MapScores, PixelScores

# Scores in one band: few enough for a processor's cache, many enough to keep a GPU busy.
_BAND_CPU, _BAND_GPU = 1 << 20, 1 << 25


def label_in_bands(
    scores: PixelScores | MapScores,
    sizes: Sequence[int],
    logit_scale: float,
    prob_thd: float | None,
    area_thd: float | None,
    background_index: int | None,
) -> Tensor:
    """Labels (H, W), int64, as `class_scores`, `suppress_small_classes` and `predict_labels` give them.

    The best class is that of the best query. Without a threshold that is the query of the largest cosine, so no
    softmax is needed.

    Args:
        scores: Cosines of the Q queries.
        sizes: Number of queries of each class.
        logit_scale: Multiplies the cosines.
        prob_thd: See `predict_labels`.
        area_thd: See `suppress_small_classes`.
        background_index: The background class.
    """
    class_of_query = torch.repeat_interleave(torch.as_tensor(sizes)).to(scores.device)
    if not prob_thd and area_thd is None:
        query = torch.empty(scores.shape[1:], dtype=torch.int64, device=scores.device)
        for first, last in _bands(scores):
            query[first:last] = scores.band(first, last).max(dim=1)[1]
        return class_of_query[query]
    best = _Best.of(scores, logit_scale, class_of_query)
    if area_thd is not None:
        counts = best.labels.flatten().bincount(minlength=len(sizes))  # (C,), int64
        best.drop(~large_classes(counts, area_thd, background_index), scores, logit_scale, class_of_query)
    if prob_thd:
        best.labels[best.probability < prob_thd] = background_index
    return best.labels


def class_scores_in_bands(scores: PixelScores | MapScores, sizes: Sequence[int], logit_scale: float) -> Tensor:
    """`class_scores` (C, H, W) of the whole image; arguments as in `label_in_bands`."""
    found = torch.empty(len(sizes), *scores.shape[1:], device=scores.device)
    for first, last in _bands(scores):
        found[:, first:last] = class_scores(scores.band(first, last).transpose(0, 1), logit_scale, sizes)
    return found


@dataclass
class _Best:
    """The best query of each pixel.

    Attributes:
        labels: (H, W), its class.
        probability: (H, W), its share of the softmax over all queries.
        logit: (H, W), its scaled cosine.
    """

    labels: Tensor
    probability: Tensor
    logit: Tensor

    @classmethod
    def of(cls, scores: PixelScores | MapScores, logit_scale: float, class_of_query: Tensor) -> _Best:
        """Over all queries."""
        labels = torch.empty(scores.shape[1:], dtype=torch.int64, device=scores.device)
        probability, logit = (torch.empty(scores.shape[1:], device=scores.device) for _ in range(2))
        for first, last in _bands(scores):
            logits = scores.band(first, last).mul_(logit_scale)
            probability[first:last], query = logits.softmax(dim=1).max(dim=1)
            logit[first:last] = logits.gather(1, query[:, None])[:, 0]
            labels[first:last] = class_of_query[query]
        return cls(labels, probability, logit)

    def drop(
        self, dropped: Tensor, scores: PixelScores | MapScores, logit_scale: float, class_of_query: Tensor
    ) -> None:
        """Give the pixels of classes (C,) that are dropped to the best of the others, in place.

        The softmax stays that over all queries: only its numerator changes. Where all others underflow to 0, the
        first class wins, as it does among equal scores.
        """
        lost = dropped[self.labels]  # (H, W)
        kept = (~dropped)[class_of_query].nonzero()[:, 0]  # queries
        rest = scores.only(kept)
        for first, last in _bands(rest):
            here = lost[first:last]
            if not here.any():
                continue
            logit, query = rest.band(first, last).mul_(logit_scale).max(dim=1)
            probability = self.probability[first:last] * (logit - self.logit[first:last]).exp()
            labels = class_of_query[kept[query]].masked_fill_(probability == 0, 0)
            self.labels[first:last][here] = labels[here]
            self.probability[first:last][here] = probability[here]


def _bands(scores: PixelScores | MapScores) -> Iterator[tuple[int, int]]:
    """(first row, row behind the last) of each band."""
    queries, height, width = scores.shape
    step = max(1, (_BAND_CPU if scores.device.type == 'cpu' else _BAND_GPU) // (queries * width))
    for first in range(0, height, step):
        yield first, min(first + step, height)
