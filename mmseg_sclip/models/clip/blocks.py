"""The untouched blocks of open_clip, run without copies."""

from __future__ import annotations

import torch
from open_clip.transformer import QuickGELU, ResidualAttentionBlock
from torch import Tensor, nn
from torch.nn import functional as F

_QUICK = 1.702  # QuickGELU is x * sigmoid(1.702 x)


def run_block(block: ResidualAttentionBlock, x: Tensor) -> Tensor:
    """The same as `block(x)` to rounding, from the block's own modules; `x` (B, N, width) is not changed.

    `nn.MultiheadAttention` copies q, k and v, and QuickGELU makes two more tensors of the largest size;
    views and work in place save that. With gradients, or where someone listens with hooks, open_clip's own way
    is taken.
    """
    if torch.is_grad_enabled() or any(m._forward_hooks or m._forward_pre_hooks for m in block.modules()):
        return block(x)
    x = x + block.ls_1(_attention(block.attn, block.ln_1(x)))
    hidden = _activate(block.mlp.gelu, block.mlp.c_fc(block.ln_2(x)))  # (B, N, 4 width)
    return x.add_(block.ls_2(block.mlp.c_proj(hidden)))


def _attention(attn: nn.MultiheadAttention, x: Tensor) -> Tensor:
    qkv = F.linear(x, attn.in_proj_weight, attn.in_proj_bias)  # (B, N, 3 width)
    q, k, v = qkv.unflatten(-1, (3, attn.num_heads, -1)).permute(2, 0, 3, 1, 4)  # each (B, heads, N, head_dim)
    return attn.out_proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


def _activate(activation: nn.Module, hidden: Tensor) -> Tensor:
    if isinstance(activation, QuickGELU):
        return F.silu(hidden.mul_(_QUICK), inplace=True).div_(_QUICK)
    return activation(hidden)
