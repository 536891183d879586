"""The image tower of open_clip, cut where decoders need it: embedding, blocks, projection."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from ...compat import open_clip
from ...errors import BadFileError, ConfigError
from ..streams import BlockInput, Feedback, Memory
from .fused import fuse_block
from .positions import POSITION_RULES


class VisionTower(nn.Module):
    """An open_clip `VisionTransformer` with its parts in reach.

    Args:
        visual: A Vision Transformer with a class token. The attention and the activation of its blocks are
            exchanged for fused modules that share their weights.
        positions: Name of the rule that fits the positional table to other grids.

    Attributes:
        depth: Number of blocks; they count from 1.
        width: Channels of a token.
        heads: Attention heads.
        prefix: Tokens in front of the patches (the class token).
        patch_size: (height, width) of a patch in pixels.
        out_dim: Channels after the projection.
    """

    prefix = 1

    def __init__(self, visual: open_clip.transformer.VisionTransformer, positions: str = 'scale') -> None:
        super().__init__()
        self.visual = visual
        self.fit_positions = POSITION_RULES[positions]
        self.depth = len(visual.transformer.resblocks)
        self.width = visual.transformer.width
        self.heads = visual.transformer.resblocks[0].attn.num_heads
        self.patch_size = tuple(visual.patch_size)
        self.out_dim = visual.output_dim
        for block in visual.transformer.resblocks:
            fuse_block(block)

    def block(self, number: int) -> open_clip.transformer.ResidualAttentionBlock:
        """Block `number`, from 1 to depth."""
        return self.visual.transformer.resblocks[number - 1]

    def block_number(self, number: int) -> int:
        """`number` with a negative one counted from the end (-1 is the last block); 0 is the embedding.

        Raises:
            ConfigError: There is no such block.
        """
        if not -self.depth <= number <= self.depth:
            raise ConfigError(
                f'There is no block {number}: this image tower has the blocks 1 to {self.depth} '
                f'(or -{self.depth} to -1 from the end).'
            )
        return number + self.depth + 1 if number < 0 else number

    def block_numbers(self, numbers: Iterable[int]) -> frozenset[int]:
        """`block_number` of each."""
        return frozenset(self.block_number(number) for number in numbers)

    def check_size(self, image: Tensor, name: str = 'An image') -> None:
        """Refuse what holds no patch.

        Args:
            image: (..., H, W).
            name: What the message calls it.

        Raises:
            BadFileError: A side is smaller than a patch.
        """
        height, width = image.shape[-2:]
        if height < self.patch_size[0] or width < self.patch_size[1]:
            raise BadFileError(
                f'{name} reaches the network with {height} x {width} pixels (height x width), but it needs at least '
                f'one patch of {self.patch_size[0]} x {self.patch_size[1]}. Take the image out, or give a larger scale '
                'in the Resize step of the test pipeline.'
            )

    def embed(self, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Patches, class token and positions.

        Args:
            images: (B, 3, H, W), normalised. Sides that are no multiple of the patch are floored.

        Returns:
            (B, 1 + h * w, width) and the grid (h, w).

        Raises:
            BadFileError: The image is smaller than one patch.
        """
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

    def record(self, images: Tensor, needs: Iterable[int]) -> Memory:
        """Run the tower to the deepest output that is needed, and no further, and keep those outputs.

        Args:
            images: (B, 3, H, W), normalised.
            needs: Block numbers, 0 for the embedding.
        """
        needs = frozenset(needs)
        x, grid = self.embed(images)
        memory = Memory(images, grid)
        for number in range(max(needs) + 1):
            x = x if number == 0 else self.block(number)(x)
            if number in needs:
                memory[number] = x
        return memory

    def block_input(
        self, number: int, memory: Memory, feedback: Feedback | None = None, stream: Tensor | None = None
    ) -> BlockInput:
        """What an attention sees inside a block.

        Args:
            number: The block, from 1; negative numbers count from the end.
            memory: The record of the windows.
            feedback: What the pass before has computed, or None.
            stream: (B, N, width), the block's input, for decoders that carry a stream of their own; None for the
                recorded output of the block before it.

        Raises:
            LookupError: That output was not recorded.
        """
        number = self.block_number(number)
        if number == 0:
            raise LookupError(f'Block 0 is the embedding and has no attention; blocks count from 1 to {self.depth}.')
        if stream is None and number - 1 not in memory:
            raise LookupError(
                f'Block {number} was asked for, but the output of block {number - 1} is not recorded '
                f'(recorded: {sorted(memory)}). Put {number - 1} into the `needs` of the strategy.'
            )
        block = self.block(number)
        x = block.ln_1(memory[number - 1] if stream is None else stream)
        q, k, v = block.attn.project(x)
        return BlockInput(
            q,
            k,
            v,
            x,
            memory.grid,
            self.prefix,
            q.shape[-1] ** -0.5,
            memory.images,
            feedback,
            lambda earlier: self.block_input(earlier, memory, feedback),
            memory,
        )

    def merge_heads(self, number: int, heads: Tensor) -> Tensor:
        """The output of a block's attention, from what its heads attended to.

        Args:
            number: The block, from 1 to depth.
            heads: (B, heads, N, head_dim).

        Returns:
            (B, N, width), behind the output projection (with bias), before LayerScale and residual.
        """
        return self.block(number).attn.merge(heads)

    def attention_branch(self, number: int, heads: Tensor) -> Tensor:
        """`merge_heads` behind the block's LayerScale: what a block adds to its stream first, (B, N, width)."""
        return self.block(number).ls_1(self.merge_heads(number, heads))

    def feed_forward_branch(self, number: int, x: Tensor) -> Tensor:
        """What a block adds to its stream second: LayerNorm, feed-forward part and LayerScale of x (B, N, width)."""
        block = self.block(number)
        return block.ls_2(block.mlp(block.ln_2(x)))

    def project(self, x: Tensor) -> Tensor:
        """The final LayerNorm and the projection to the joint space: (B, N, width) to (B, N, D)."""
        x = self.visual.ln_post(x)
        return x if self.visual.proj is None else x @ self.visual.proj
