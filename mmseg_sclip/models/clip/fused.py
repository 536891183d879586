"""Blocks that take the place of open_clip's: the same weights and results, without the copies.

`nn.MultiheadAttention` copies q, k and v, and QuickGELU makes three tensors of a block's largest size. The modules
here keep the names of parameters, so state dicts stay as they are. All that depends on how open_clip builds and calls
a block stands here, so another version of open_clip is either known or refused.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...compat import open_clip
from ...errors import ConfigError

_QUICK = 1.702  # QuickGELU is x * sigmoid(1.702 x)


_PARTS = {'ln_1', 'attn', 'ls_1', 'ln_2', 'mlp', 'ls_2'}
_OF_ATTENTION = {'in_proj_weight', 'in_proj_bias', 'out_proj.weight', 'out_proj.bias'}


def fuse_block(block: Any) -> FusedBlock:
    """A block with fused modules, which shares the weights of a block of open_clip.

    Args:
        block: Of CLIP's kind; its attention may be `nn.MultiheadAttention` or a class of open_clip's own.

    Raises:
        ConfigError: This version of open_clip builds it in a way that is not known here.
    """
    if isinstance(block, FusedBlock):
        return block
    parts, attention = {name for name, _ in block.named_children()}, getattr(block, 'attn', None)
    weights = set() if attention is None else {name for name, _ in attention.named_parameters()}
    if parts != _PARTS or weights != _OF_ATTENTION or not hasattr(attention, 'num_heads'):
        raise ConfigError(
            f'open_clip {open_clip.__version__} builds a {type(block).__name__} with the parts '
            f'{", ".join(sorted(parts))} and a {type(attention).__name__}, which is not known here. Install '
            'open_clip_torch 3.3.'
        )
    return FusedBlock(block)


class FusedBlock(nn.Module):
    """A residual block of CLIP: attention and feed-forward part, each after a LayerNorm and before a LayerScale.

    Args:
        block: Of open_clip; its parts are shared.
    """

    ln_1: nn.Module
    ls_1: nn.Module
    ln_2: nn.Module
    ls_2: nn.Module
    mlp: Any

    def __init__(self, block: Any) -> None:
        super().__init__()
        self.ln_1, self.ls_1, self.ln_2, self.ls_2 = block.ln_1, block.ls_1, block.ln_2, block.ls_2
        self.attn = FusedSelfAttention(block.attn)
        self.mlp = block.mlp
        if isinstance(getattr(self.mlp, 'gelu', None), open_clip.transformer.QuickGELU):
            self.mlp.gelu = FusedQuickGELU()

    def forward(self, x: Tensor) -> Tensor:
        """The output of the block from its input, both (B, N, width)."""
        x = x + self.ls_1(self.attn(self.ln_1(x)))
        return x + self.ls_2(self.mlp(self.ln_2(x)))


class FusedSelfAttention(nn.Module):
    """Self-attention on views of the projections.

    Args:
        attention: Its parameters are shared.
    """

    def __init__(self, attention: Any) -> None:
        super().__init__()
        self.num_heads = attention.num_heads
        self.in_proj_weight = attention.in_proj_weight
        self.in_proj_bias = attention.in_proj_bias
        self.out_proj = attention.out_proj

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values (B, heads, N, head_dim) of x (B, N, width), biases included."""
        qkv = F.linear(x, self.in_proj_weight, self.in_proj_bias)  # (B, N, 3 * width)
        return tuple(qkv.unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4))

    def project_values(self, x: Tensor) -> Tensor:
        """The values (B, heads, N, head_dim) of x (B, N, width)."""
        width = x.shape[-1]
        values = F.linear(x, self.in_proj_weight[2 * width :], self.in_proj_bias[2 * width :])
        return values.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)

    def attend_beside(self, copies: Tensor, x: Tensor, mask: Tensor) -> Tensor:
        """See `ImageTower.attend_beside`; neither keys nor values of x are made.

        A product of a query and a key is one of the query, taken back through the weights of the keys, and x; their
        bias adds the same to all keys. A mean of values is one of x, taken through the weights of the values.
        """
        heads, width = self.num_heads, x.shape[-1]
        weights = self.in_proj_weight.view(3, heads, -1, width)
        bias = self.in_proj_bias.view(3, heads, 1, -1)
        q = copies[:, None] @ weights[0].mT + bias[0]  # (B, heads, K, head_dim)
        queries = (q @ weights[1]).flatten(1, 2)  # (B, heads * K, width)
        logits = (queries @ x.mT).unflatten(1, (heads, -1)) * q.shape[-1] ** -0.5
        shares = logits.masked_fill(~mask[:, None], -torch.inf).softmax(dim=-1)
        seen = (shares.flatten(1, 2) @ x).unflatten(1, (heads, -1))  # (B, heads, K, width)
        return seen @ weights[2].mT + bias[2]

    def merge(self, heads: Tensor) -> Tensor:
        """(B, heads, N, head_dim) to (B, N, width), through the output projection."""
        return self.out_proj(heads.transpose(1, 2).flatten(2))

    def forward(self, x: Tensor) -> Tensor:
        """Attend within x (B, N, width), the block's input after its first LayerNorm."""
        return self.merge(F.scaled_dot_product_attention(*self.project(x)))


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
