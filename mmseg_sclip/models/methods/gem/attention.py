"""Iterated self-self attention (GEM, "Grounding Everything", CVPR 2024)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

import torch
from mmseg.registry import MODELS
from torch import Tensor
from torch.nn import functional as F

from ....rules import AtLeast, Positive
from ...attention.csa import CorrelativeSelfAttention
from ...attention.projections import Projection
from ...record import BlockInput


@MODELS.register_module()
class SelfSelfAttention(CorrelativeSelfAttention):
    """The mean over q, k and v of softmax(t u u^T), where u is a unit vector that was itself attended to before.

    Each projection is normalised per head, and `iterations` times replaced by softmax(t u u^T) u and normalised again,
    which draws tokens of one object together. The last softmax is applied to the values as they are.

    Args:
        projections: As in `CorrelativeSelfAttention`.
        iterations: How often a projection attends to itself before the map is made; 0 for not at all.
        inverse_temperature: t, the factor of the cosines (the official code's `ss_attn_temp`). None for GEM's own, one
            number for each image and block: s times the mean length of the block's normalised input tokens.
    """

    def __init__(
        self,
        projections: str | Mapping | Projection | Sequence[str | Mapping | Projection] = ('q', 'k', 'v'),
        iterations: Annotated[int, AtLeast(0)] = 1,
        inverse_temperature: Annotated[float, Positive] | None = None,
    ) -> None:
        super().__init__(projections, reduction='mean')
        self.iterations = iterations
        self.inverse_temperature = inverse_temperature

    def pairs(self, b: BlockInput) -> list[tuple[Tensor, Tensor, float]]:
        """Each iterated stream with itself, its vectors as long as the square root of t."""
        if self.inverse_temperature is None:
            lengths = b.x.float().norm(dim=-1).mean(dim=-1)  # (B,), the class token included
            root = (b.scale * lengths).sqrt()[:, None, None, None]
        else:
            root = self.inverse_temperature**0.5
        pairs = []
        for stream in (stream for projection in self.projections for stream in projection(b)):
            stream = _set_length(stream, root)
            for _ in range(self.iterations):
                stream = F.scaled_dot_product_attention(stream, stream, stream, scale=1.0)
                stream = _set_length(stream, root)
            pairs.append((stream, stream, 1.0))
        return pairs


def _set_length(vectors: Tensor, length: Tensor | float) -> Tensor:
    """Vectors along the last axis, all of one length; one step in place of a normalisation and a product."""
    norm = vectors.norm(dim=-1, keepdim=True, dtype=torch.promote_types(vectors.dtype, torch.float32)).clamp_min(1e-12)
    return vectors * (length / norm).to(vectors.dtype)
