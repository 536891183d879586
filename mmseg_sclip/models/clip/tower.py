"""The image tower of open_clip, cut where decoders need it: embedding, blocks, projection."""

from __future__ import annotations

from collections.abc import Hashable

import torch
from torch import Tensor

from ...compat import open_clip
from ..image.patches import embed_patches
from ..towers.image import ImageTower
from .fused import FusedBlock, fuse_block
from .positions import POSITION_RULES


class VisionTower(ImageTower):
    """An open_clip `VisionTransformer` with its parts in reach.

    Args:
        visual: A Vision Transformer with a class token. Its blocks are exchanged for fused ones that share their
            weights.
        positions: Name of the rule that fits the positional table to other grids.
    """

    def __init__(self, visual: open_clip.transformer.VisionTransformer, positions: str = 'scale') -> None:
        super().__init__()
        self.visual = visual
        self.positions = positions
        self.fit_positions = POSITION_RULES[positions]
        self.depth = len(visual.transformer.resblocks)
        self.width = visual.transformer.width
        self.heads = visual.transformer.resblocks[0].attn.num_heads
        self.patch_size = tuple(visual.patch_size)
        self.out_dim = visual.output_dim
        blocks = visual.transformer.resblocks
        for index, block in enumerate(blocks):
            blocks[index] = fuse_block(block)

    def block(self, number: int) -> FusedBlock:
        """Block `number`, from 1 to depth."""
        return self.visual.transformer.resblocks[number - 1]

    def outputs_key(self, window: tuple[int, int]) -> Hashable:
        """See `ImageTower.outputs_key`: on the native grid every rule takes the positional table as it is."""
        grid = tuple(side // patch for side, patch in zip(window, self.patch_size, strict=True))
        return id(self.visual), None if grid == tuple(self.visual.grid_size) else self.positions

    def embed(self, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """See `ImageTower.embed`."""
        self.check_size(images)
        visual = self.visual
        x, grid = embed_patches(images, visual.conv1.weight)
        x = torch.cat([visual.class_embedding.to(x.dtype).expand(x.shape[0], 1, -1), x], dim=1)
        x = x + self.fit_positions(visual.positional_embedding, visual.grid_size, grid).to(x.dtype)
        return visual.ln_pre(x), grid

    def run_block(self, number: int, x: Tensor) -> Tensor:
        """See `ImageTower.run_block`."""
        return self.block(number)(x)

    def norm(self, number: int, x: Tensor) -> Tensor:
        """See `ImageTower.norm`."""
        return self.block(number).ln_1(x)

    def project_qkv(self, number: int, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See `ImageTower.project_qkv`."""
        return self.block(number).attn.project(x)

    def project_values(self, number: int, x: Tensor) -> Tensor:
        """See `ImageTower.project_values`."""
        return self.block(number).attn.project_values(x)

    def attend_beside(self, number: int, copies: Tensor, x: Tensor, mask: Tensor) -> Tensor:
        """See `ImageTower.attend_beside`."""
        attention = self.block(number).attn
        if copies.shape[1] * attention.num_heads > self.width:  # then their keys and values are the shorter way
            return super().attend_beside(number, copies, x, mask)
        return attention.attend_beside(copies, x, mask)

    def query_weights(self, number: int) -> Tensor:
        """See `ImageTower.query_weights`."""
        return self.block(number).attn.in_proj_weight[: self.width]

    def merge_heads(self, number: int, heads: Tensor) -> Tensor:
        """See `ImageTower.merge_heads`."""
        return self.block(number).attn.merge(heads)

    def attention_branch(self, number: int, heads: Tensor) -> Tensor:
        """See `ImageTower.attention_branch`."""
        return self.block(number).ls_1(self.merge_heads(number, heads))

    def feed_forward_branch(self, number: int, x: Tensor) -> Tensor:
        """See `ImageTower.feed_forward_branch`."""
        block = self.block(number)
        return block.ls_2(block.mlp(block.ln_2(x)))

    def project(self, x: Tensor) -> Tensor:
        """See `ImageTower.project`."""
        x = self.visual.ln_post(x)
        return x if self.visual.proj is None else x @ self.visual.proj
