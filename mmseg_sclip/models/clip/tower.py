"""The image tower of open_clip, cut where decoders need it: embedding, blocks, projection."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...compat import open_clip
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

    def embed(self, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """See `ImageTower.embed`."""
        self.check_size(images)
        visual, (height, width) = self.visual, self.patch_size
        grid = (images.shape[-2] // height, images.shape[-1] // width)
        # As a product of matrices, since convolutions on GPUs would silently round to TF32.
        x = images[..., : grid[0] * height, : grid[1] * width].to(visual.conv1.weight.dtype)
        x = x.unflatten(3, (grid[1], width)).unflatten(2, (grid[0], height))  # (B, 3, h, height, w, width)
        x = x.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)  # (B, h * w, 3 * height * width)
        x = nn.functional.linear(x, visual.conv1.weight.flatten(1))
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
