"""The loss of a head, for what is trained on top of a frozen CLIP."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..image.postprocess import best_of_class

if TYPE_CHECKING:
    from .text_similarity import TextSimilarityHead


def class_loss(
    head: TextSimilarityHead, scores: Tensor, samples: Sequence[Any], logit_scale: float
) -> dict[str, Tensor]:
    """Cross-entropy on the class scores (softmax over queries, the best of each class).

    Args:
        head: Of the scores.
        scores: (B, Q, h, w).
        samples: With `gt_sem_seg`; 255 and negative labels are ignored.
        logit_scale: Multiplies the scores.

    Returns:
        `loss_ce`, and `acc_seg` in percent.
    """
    losses: list[Tensor] = []
    right: Any = 0
    counted: Any = 0
    for each, sample in zip(scores, samples, strict=True):
        truth = sample.gt_sem_seg.data.squeeze(0).long().to(each.device)  # (H, W)
        log_query = (head.enlarge(each[None], truth.shape)[0] * logit_scale).log_softmax(dim=0)
        log_class = best_of_class(log_query, head.vocabulary.sizes)
        known = (truth != 255) & (truth >= 0)
        # A crop without any known pixel counts nothing; the mean of none would be nan.
        total = F.nll_loss(log_class[None], truth.where(known, 255)[None], ignore_index=255, reduction='sum')
        losses.append(total / known.sum().clamp(min=1))
        right += (log_class.argmax(dim=0) == truth)[known].sum()
        counted += known.sum()
    return dict(loss_ce=torch.stack(losses).mean(), acc_seg=100 * right / max(counted, 1))
