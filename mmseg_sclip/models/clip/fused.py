"""Modules that take the place of open_clip's in a block: the same weights and results, without the copies.

`nn.MultiheadAttention` copies q, k and v, and QuickGELU makes three tensors of a block's largest size. The modules
here keep the names of parameters, so state dicts stay as they are, and everything around them stays open_clip's own
code, so hooks and exchanged modules work as in any PyTorch model.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...compat import open_clip

_QUICK = 1.702  # QuickGELU is x * sigmoid(1.702 x)


def fuse_block(block: open_clip.transformer.ResidualAttentionBlock) -> None:
    """Put the fused modules into a block, in place; parts of other kinds than CLIP's stay as they are."""
    if type(block.attn) is nn.MultiheadAttention and block.attn.batch_first:
        block.attn = FusedSelfAttention(block.attn)
    if isinstance(getattr(block.mlp, 'gelu', None), open_clip.transformer.QuickGELU):
        block.mlp.gelu = FusedQuickGELU()


class FusedSelfAttention(nn.Module):
    """Self-attention on views of the projections, in place of `nn.MultiheadAttention` inside a block.

    Args:
        attention: Its parameters are shared.
    """

    def __init__(self, attention: nn.MultiheadAttention) -> None:
        super().__init__()
        self.num_heads = attention.num_heads
        self.in_proj_weight = attention.in_proj_weight
        self.in_proj_bias = attention.in_proj_bias
        self.out_proj = attention.out_proj

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values (B, heads, N, head_dim) of x (B, N, width), biases included."""
        qkv = F.linear(x, self.in_proj_weight, self.in_proj_bias)  # (B, N, 3 * width)
        return tuple(qkv.unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4))

    def merge(self, heads: Tensor) -> Tensor:
        """(B, heads, N, head_dim) to (B, N, width), through the output projection."""
        return self.out_proj(heads.transpose(1, 2).flatten(2))

    def forward(
        self,
        query: Tensor,
        key: Tensor | None = None,
        value: Tensor | None = None,
        need_weights: bool = False,
        attn_mask: Tensor | None = None,
    ) -> tuple[Tensor, None]:
        """Attend within query (B, N, width).

        Args:
            query: The block's input after its first LayerNorm.
            key: The same tensor; kept for the call of open_clip's block.
            value: Kept likewise.
            need_weights: Kept likewise; no map is made.
            attn_mask: Added to the logits.

        Returns:
            (B, N, width) and None, as `nn.MultiheadAttention` does.
        """
        q, k, v = self.project(query)
        return self.merge(F.scaled_dot_product_attention(q, k, v, attn_mask=attn_mask)), None


class FusedQuickGELU(nn.Module):
    """x * sigmoid(1.702 x) with one new tensor in place of three."""

    def forward(self, x: Tensor) -> Tensor:
        """Of any shape."""
        return _QuickGELU.apply(x)


class _QuickGELU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return (x * _QUICK).sigmoid_().mul_(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        gate = (x * _QUICK).sigmoid()
        return gradient * gate * (1 + _QUICK * x * (1 - gate))
