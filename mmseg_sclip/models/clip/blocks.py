"""The blocks of open_clip, run without copies."""

from __future__ import annotations

import torch
from open_clip.transformer import QuickGELU, ResidualAttentionBlock
from torch import Tensor, nn
from torch.nn import functional as F

_QUICK = 1.702  # QuickGELU is x * sigmoid(1.702 x)


def run_block(block: ResidualAttentionBlock, x: Tensor) -> Tensor:
    """The same as `block(x)` to rounding, from the block's own weights; `x` (B, N, width) is not changed.

    `nn.MultiheadAttention` copies q, k and v, and QuickGELU makes three tensors of the largest size; views and
    work in place save that. With gradients, or where someone has changed the block or listens with hooks,
    open_clip's own way is taken.
    """
    if not _is_untouched(block):
        return block(x)
    x = block.ls_1(_attention(block.attn, block.ln_1(x))).add_(x)
    return x.add_(feed_forward(block, x))


def feed_forward(block: ResidualAttentionBlock, x: Tensor) -> Tensor:
    """The block's second part (B, N, width), without the residual."""
    mlp, x = block.mlp, block.ln_2(x)
    if not isinstance(mlp.gelu, QuickGELU) or not _is_untouched(block):
        return block.ls_2(mlp(x))
    # silu(1.702 x) / 1.702, with both factors inside the products.
    hidden = _linear(mlp.c_fc, x.flatten(0, 1), _QUICK, _QUICK)  # (B * N, 4 width)
    return block.ls_2(_linear(mlp.c_proj, F.silu(hidden, inplace=True), 1, 1 / _QUICK).view_as(x))


def _is_untouched(block: nn.Module) -> bool:
    """Whether nobody could tell the difference: no gradients, no hooks, every module of its original class."""
    if torch.is_grad_enabled() or nn.modules.module._has_any_global_hook():
        return False
    layers = (block.mlp.c_fc, block.mlp.c_proj)
    return (
        type(block) is ResidualAttentionBlock
        and type(block.attn) is nn.MultiheadAttention
        and type(block.mlp) is nn.Sequential
        and all(type(layer) is nn.Linear for layer in layers)
        and not any(m._forward_hooks or m._forward_pre_hooks for m in block.modules())
    )


def _attention(attn: nn.MultiheadAttention, x: Tensor) -> Tensor:
    qkv = F.linear(x, attn.in_proj_weight, attn.in_proj_bias)  # (B, N, 3 width)
    q, k, v = qkv.unflatten(-1, (3, attn.num_heads, -1)).permute(2, 0, 3, 1, 4)  # each (B, heads, N, head_dim)
    return attn.out_proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


def _linear(layer: nn.Linear, x: Tensor, beta: float, alpha: float) -> Tensor:
    return torch.addmm(layer.bias, x, layer.weight.t(), beta=beta, alpha=alpha)
