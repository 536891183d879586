"""SegCLIP's semantic learner: centres gather the patches that are like them (arXiv 2211.14813, section 3.2)."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ....compat import open_clip
from ....errors import ConfigError
from ...clip.fused import FusedQuickGELU, fuse_block

_CENTRES, _CROSS_BLOCKS, _HEAD = 8, 2, 64


class CrossBlock(nn.Module):
    """A block of CLIP in which the centres look at themselves and at the patches.

    Args:
        block: Of CLIP, whose parts are copied.
    """

    def __init__(self, block: Any) -> None:
        super().__init__()
        own = fuse_block(copy.deepcopy(block))
        self.ln_x, self.ln_k = own.ln_1, copy.deepcopy(own.ln_1)
        self.attn, self.ln_2, self.mlp = own.attn, own.ln_2, own.mlp

    def forward(self, centres: Tensor, patches: Tensor) -> Tensor:
        """(B, G, width) from the same and (B, n, width); each image for itself."""
        weight, bias, width = self.attn.in_proj_weight, self.attn.in_proj_bias, centres.shape[-1]
        queries = F.linear(self.ln_x(centres), weight[:width], bias[:width])
        seen = F.linear(self.ln_k(torch.cat([centres, patches], dim=1)), weight[width:], bias[width:])
        q, k, v = (
            x.unflatten(-1, (self.attn.num_heads, -1)).transpose(1, 2) for x in (queries, *seen.chunk(2, dim=-1))
        )
        centres = centres + self.attn.merge(F.scaled_dot_product_attention(q, k, v))
        return centres + self.mlp(self.ln_2(centres))


class Output(nn.Module):
    """LayerNorm and a feed-forward network with exact GELU, without a residual.

    Args:
        width: Channels.
        device: Of the parameters.
    """

    def __init__(self, width: int, device: torch.device) -> None:
        super().__init__()
        self.ln = open_clip.transformer.LayerNormFp32(width, device=device)
        self.mlp = nn.ModuleDict(
            dict(fc1=nn.Linear(width, 4 * width, device=device), fc2=nn.Linear(4 * width, width, device=device))
        )

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) of the same."""
        return self.mlp['fc2'](F.gelu(self.mlp['fc1'](self.ln(x))))


class SemanticLearner(nn.Module):
    """From patches to groups, and how much of each patch belongs to each group.

    Args:
        visual: CLIP's image tower; parts of its last block are copied before training.
    """

    norm: nn.Module
    cross_ln: nn.Module
    k_ln: nn.Module

    def __init__(self, visual: Any) -> None:
        super().__init__()
        width, device, block = visual.transformer.width, visual.proj.device, visual.transformer.resblocks[-1]
        if width % _HEAD:
            raise ConfigError(
                f'SegCLIP projects {_HEAD} channels at a time, but the CLIP of model.clip.clip has {width}. Take '
                'ViT-B-16-quickgelu, of which the released file is.'
            )
        self.semantic_center = nn.Parameter(torch.randn(_CENTRES, width, device=device))
        self.cross_att = nn.ModuleList(CrossBlock(block) for _ in range(_CROSS_BLOCKS))
        for name in ('norm', 'cross_ln', 'k_ln'):
            self.add_module(name, open_clip.transformer.LayerNormFp32(width, device=device))
        # Convolutions of one place in the file: (width, 64, 1), each 64 channels for themselves.
        self.k_conv, self.v_conv = (
            nn.Conv1d(width, width, 1, groups=width // _HEAD, bias=False, device=device) for _ in range(2)
        )
        self.proj_o = Output(width, device)
        self.activation = FusedQuickGELU()

    def forward(self, patches: Tensor) -> tuple[Tensor, Tensor]:
        """Groups and shares.

        Args:
            patches: (B, n, width), of the last block before it.

        Returns:
            Groups (B, G, width), and the shares of each patch (B, G, n), which sum to 1 over the groups.
        """
        centres = self.semantic_center.expand(len(patches), -1, -1)
        for block in self.cross_att:
            centres = block(centres, patches)
        centres, patches = self.cross_ln(centres), self.norm(patches)
        keys, values = self.k_ln(_by_heads(self.k_conv, patches)), _by_heads(self.v_conv, patches)
        shares = (centres @ keys.transpose(1, 2)).float().softmax(dim=1)
        hard = F.one_hot(shares.max(dim=1)[1], _CENTRES).to(values.dtype).transpose(1, 2)  # (B, G, n)
        mean = hard @ values / hard.sum(dim=2, keepdim=True).clamp(min=1)
        return self.activation(self.proj_o(centres + mean)), shares


def _by_heads(projection: nn.Conv1d, x: Tensor) -> Tensor:
    """A grouped convolution of one place, of (B, n, width), as a product of matrices; GPUs would round to TF32."""
    weight = projection.weight[..., 0].unflatten(0, (projection.groups, -1))
    return torch.einsum('bngi,goi->bngo', x.unflatten(-1, (projection.groups, -1)), weight).flatten(2)
