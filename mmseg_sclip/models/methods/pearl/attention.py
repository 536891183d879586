"""PEARL's attention, in which the keys are turned towards the queries before they meet (CVPR 2026)."""

from __future__ import annotations

from typing import Annotated

import torch
from mmseg.registry import MODELS
from torch import Tensor
from torch.nn import functional as F

from ....rules import AtLeast, OneOf
from ...attention.base import ProductAttention
from ...precision import without_autocast
from ...record import BlockInput


@MODELS.register_module()
class ProcrustesAttention(ProductAttention):
    """softmax(s q (k R)^T + alpha s kc kc^T): CLIP's attention with keys aligned to the queries, and a key-key term.

    R is found for each image and head from the centred queries and keys (qc, kc): the matrix that turns kc towards qc.
    All of it runs in float32 at least, whatever the tower's precision.

    Args:
        alpha: Weight of the key-key term; 0 switches it off. PEARL takes 0.3 for Cityscapes and ADE20K.
        solver: 'newton_schulz' is the official one: five steps, which bring the larger singular values of kc^T qc to
            about 1 and leave the small ones small, so R is not a rotation. 'svd' gives the rotation itself.
    """

    def __init__(
        self,
        alpha: Annotated[float, AtLeast(0)] = 0.08,
        solver: Annotated[str, OneOf(SOLVERS)] = 'newton_schulz',
    ) -> None:
        super().__init__()
        self.alpha = alpha
        self.solver = solver

    def pairs(self, b: BlockInput) -> list[tuple[Tensor, Tensor, float]]:
        """One pair: both products side by side in the head dimension, since their logits are added."""
        with without_autocast(b.q.device):
            q, k = (x.to(torch.promote_types(x.dtype, torch.float32)) for x in (b.q, b.k))
            centred_q, centred_k = centre(q, k, b.prefix)
            keys = k @ SOLVERS[self.solver](centred_k.transpose(-1, -2) @ centred_q)
        if not self.alpha:
            return [(q, keys, b.scale)]
        return [(torch.cat([q, self.alpha * centred_k], -1), torch.cat([keys, centred_k], -1), b.scale)]

    def attend(self, b: BlockInput) -> Tensor:
        """The attended values (B, heads, N, head_dim), computed in float32 at least."""
        with without_autocast(b.q.device):
            weights = self.weights(b)
            return (weights @ b.v.to(weights.dtype)).to(b.v.dtype)


def centre(q: Tensor, k: Tensor, prefix: int) -> tuple[Tensor, Tensor]:
    """Queries and keys (B, heads, N, head_dim), each without its mean over the patches.

    Both means are weighted with the norms of the queries. The tokens in front of the patches, `prefix` of them, have no
    weight, but the means are taken from them too.
    """
    weights = F.pad(q[..., prefix:, :].norm(dim=-1, keepdim=True), (0, 0, prefix, 0))
    weights = weights / (weights.sum(dim=-2, keepdim=True) + 1e-6)
    q, k = (x - (weights * x).sum(dim=-2, keepdim=True) for x in (q, k))
    return q, k


def newton_schulz(product: Tensor) -> Tensor:
    """M (M^T M)^(-1/2), roughly: five Newton-Schulz steps from the start scaled by the Frobenius norm.

    Args:
        product: (..., d, d), M.

    Returns:
        (..., d, d), with the singular vectors of M. Of its singular values those above 0.3 times the root of the norm
        of M^T M come near 1, the smaller ones stay below: the number of steps is part of the method.
    """
    identity = torch.eye(product.shape[-1], dtype=product.dtype, device=product.device)
    gram = product.transpose(-1, -2) @ product
    norm = torch.linalg.matrix_norm(gram, keepdim=True).clamp_min(1e-6)
    y, z = gram / norm + 1e-6 * identity, identity
    for _ in range(5):
        step = (3 * identity - z @ y) / 2
        y, z = y @ step, step @ z
    return product @ z / norm.sqrt()


def nearest_rotation(product: Tensor) -> Tensor:
    """U V^T of M = U S V^T: the orthogonal Procrustes solution, (..., d, d)."""
    left, _, right = torch.linalg.svd(product)
    return left @ right


SOLVERS = {'newton_schulz': newton_schulz, 'svd': nearest_rotation}
