"""Labels from scores in bands of rows: no map of all queries at all pixels is held.

The same as `postprocess`, whose functions say what is done; tests compare the two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from ..postprocess import class_scores, large_classes

# Scores in one band: few enough for a processor's cache, many enough to keep a GPU busy.
_BAND_CPU, _BAND_GPU = 1 << 20, 1 << 25
Band = Callable[[int, int], Tensor]


def bands(shape: Sequence[int], device: torch.device) -> Iterator[tuple[int, int]]:
    """(first row, row behind the last) of each band of a (K, H, W) map."""
    queries, height, width = shape
    step = max(1, (_BAND_CPU if device.type == 'cpu' else _BAND_GPU) // (queries * width))
    for first in range(0, height, step):
        yield first, min(first + step, height)


def label_in_bands(
    band: Band,
    shape: Sequence[int],
    device: torch.device,
    sizes: Sequence[int],
    logit_scale: float,
    prob_thd: float | None,
    area_thd: float | None,
    background_index: int | None,
) -> Tensor:
    """Labels (H, W), int64, as `class_scores`, `suppress_small_classes` and `predict_labels` give them.

    The best class is that of the best query. Without a threshold the best query is that of the largest cosine,
    so no softmax is needed.

    Args:
        band: Cosines (rows, Q, W) from a first row to before a last one.
        shape: (Q, H, W).
        device: Of the cosines.
        sizes: Number of queries of each class.
        logit_scale: Multiplies the cosines.
        prob_thd: See `predict_labels`.
        area_thd: See `suppress_small_classes`.
        background_index: The background class.
    """
    class_of_query = torch.repeat_interleave(torch.as_tensor(sizes)).to(device)
    thresholds = bool(prob_thd) or area_thd is not None

    def best_of(first: int, last: int, keep: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Best score and class (rows, W) of a band; classes that are not kept have the score 0."""
        scores = band(first, last)
        if thresholds:
            scores = (scores * logit_scale).softmax(dim=1)
        if keep is not None:
            scores = scores * keep[class_of_query].to(scores.dtype)[None, :, None]
        best, query = scores.max(dim=1)
        return best, class_of_query[query]

    labels = torch.empty(shape[1:], dtype=torch.int64, device=device)
    best = torch.empty(shape[1:], device=device) if prob_thd else None
    for first, last in bands(shape, device):
        score, labels[first:last] = best_of(first, last)
        if best is not None:
            best[first:last] = score
    if area_thd is not None:
        counts = labels.flatten().bincount(minlength=len(sizes))  # (C,), int64
        keep = large_classes(counts, area_thd, background_index)
        lost = ~keep[labels]  # (H, W): only these pixels change
        for first, last in bands(shape, device):
            here = lost[first:last]
            if here.any():
                score, label = best_of(first, last, keep)
                labels[first:last][here] = label[here]
                if best is not None:
                    best[first:last][here] = score[here]
    if best is not None:
        labels[best < prob_thd] = background_index
    return labels


def class_scores_in_bands(
    band: Band, shape: Sequence[int], device: torch.device, sizes: Sequence[int], logit_scale: float
) -> Tensor:
    """`class_scores` (C, H, W) of the whole image; arguments as in `label_in_bands`."""
    scores = torch.empty(len(sizes), *shape[1:], device=device)
    for first, last in bands(shape, device):
        scores[:, first:last] = class_scores(band(first, last).transpose(0, 1), logit_scale, sizes)
    return scores
