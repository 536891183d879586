"""The seam of the image towers: a Vision Transformer with its blocks in reach."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...errors import BadFileError, ConfigError
from ..precision import without_autocast
from ..record import Record, Source

if TYPE_CHECKING:
    from ..decoders.base import Decoder
    from ..image.windows import Place


class ImageTower(nn.Module):
    """A frozen Vision Transformer whose blocks a decoder can rebuild.

    Blocks count from 1 to `depth`. A kind of tower writes `embed` and the methods after it.

    Attributes:
        depth: Number of blocks.
        width: Channels of a token.
        heads: Attention heads.
        prefix: Tokens in front of the patches: 1, the class token, or 0.
        has_branches: Whether a block adds to its stream; without, its attention gives what is projected, and there is
            nothing to add it to.
        patch_size: (height, width) of a patch in pixels.
        out_dim: Channels after the projection.
        mean: Mean of the images in RGB that the tower expects, for values in 0..255.
        std: Their standard deviation.
        unrounded: Both with all their digits.
    """

    depth: int
    width: int
    heads: int
    prefix: int = 1
    has_branches: bool = True
    patch_size: tuple[int, int]
    out_dim: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    unrounded: tuple[tuple[float, ...], ...]
    _lower: bool | None = None  # whether its weights have a lower precision, once it is known

    def embed(self, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Tokens of (B, 3, H, W), normalised: (B, prefix + h * w, width), and the grid (h, w).

        Sides that are not a multiple of the patch are cut off at the end.

        Raises:
            BadFileError: The image is smaller than one patch.
        """
        raise NotImplementedError(f'{type(self).__name__} must define embed(images).')

    def run_block(self, number: int, x: Tensor) -> Tensor:
        """The output of a block from its input, both (B, N, width)."""
        raise NotImplementedError(f'{type(self).__name__} must define run_block(number, x).')

    def norm(self, number: int, x: Tensor) -> Tensor:
        """The first LayerNorm of a block, of its input (B, N, width)."""
        raise NotImplementedError(f'{type(self).__name__} must define norm(number, x).')

    def project_qkv(self, number: int, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values (B, heads, N, head_dim) of a block, from its normalised input (B, N, width)."""
        raise NotImplementedError(f'{type(self).__name__} must define project_qkv(number, x).')

    def project_values(self, number: int, x: Tensor) -> Tensor:
        """The values of `project_qkv` alone."""
        return self.project_qkv(number, x)[2]

    def attend_beside(self, number: int, copies: Tensor, x: Tensor, mask: Tensor) -> Tensor:
        """What tokens beside the stream of a block attend to in it, as their queries and its keys and values say.

        Args:
            number: The block.
            copies: (B, K, width), normalised tokens that stand in no stream.
            x: (B, N, width), the block's normalised input.
            mask: (B, K, N), bool: which tokens of the stream each of them sees, one at least.

        Returns:
            (B, heads, K, head_dim).
        """
        q, k, v = self.project_qkv(number, torch.cat([copies, x], dim=1))
        own = copies.shape[1]
        return F.scaled_dot_product_attention(q[:, :, :own], k[:, :, own:], v[:, :, own:], attn_mask=mask[:, None])

    def query_weights(self, number: int) -> Tensor:
        """(width, width), so that the queries of a block are x @ query_weights.T plus their bias."""
        raise NotImplementedError(f'{type(self).__name__} must define query_weights(number).')

    def merge_heads(self, number: int, heads: Tensor) -> Tensor:
        """The output of a block's attention, from what its heads attended to.

        Args:
            number: The block.
            heads: (B, heads, N, head_dim).

        Returns:
            (B, N, width), after the output projection (with bias), before LayerScale and residual.
        """
        raise NotImplementedError(f'{type(self).__name__} must define merge_heads(number, heads).')

    def attention_branch(self, number: int, heads: Tensor) -> Tensor:
        """`merge_heads` after the block's LayerScale: what a block adds to its stream first, (B, N, width)."""
        return self.merge_heads(number, heads)

    def feed_forward_branch(self, number: int, x: Tensor) -> Tensor:
        """What a block adds to its stream second: LayerNorm, feed-forward part and LayerScale of x (B, N, width)."""
        raise NotImplementedError(f'{type(self).__name__} must define feed_forward_branch(number, x).')

    def project(self, x: Tensor) -> Tensor:
        """The final LayerNorm and the projection to the joint space: (B, N, width) to (B, N, out_dim)."""
        raise NotImplementedError(f'{type(self).__name__} must define project(x).')

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

    def blocks_named(self, where: str, numbers: Iterable[int]) -> tuple[int, ...]:
        """Blocks that a config names, from 1.

        Args:
            where: The place in the config, as the message shall call it.
            numbers: From 1, or negative from the end.

        Raises:
            ConfigError: There is no such block, one is named twice, or none is named.
        """
        given = tuple(numbers)
        blocks = tuple(self.block_number(number) for number in given)
        if not blocks or 0 in blocks or len(set(blocks)) < len(blocks):
            raise ConfigError(
                f'{where} is {given}; blocks count from 1, one or more must be named, and none may be named twice.'
            )
        return blocks

    def check_decoder(self, decoder: Decoder) -> None:
        """Refuse a decoder that reads towers of another class; called when the decoder is bound.

        Raises:
            ConfigError: It does.
        """
        if not isinstance(self, decoder.decodes):
            raise ConfigError(
                f'The decoder {type(decoder).__name__} reads a {decoder.decodes.__name__}, but the image tower of '
                f'model.clip is a {type(self).__name__}. Name the towers that the decoder was made for in model.clip, '
                'or another decoder in backbone.decoder.'
            )

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

    def outputs_key(self, window: tuple[int, int]) -> Hashable:
        """Equal for towers with the same outputs of windows of (height, width) pixels, of which one runs for all."""
        return id(self)

    def own_precision(self, device: torch.device) -> AbstractContextManager:
        """The caller's autocast for float32 weights; none for weights that have a lower precision already."""
        if self._lower is None:
            self._lower = any(parameter.dtype != torch.float32 for parameter in self.parameters())
        return without_autocast(device) if self._lower else nullcontext()

    def _apply(self, *args, **kwargs) -> ImageTower:
        self._lower = None  # the weights may get another type
        return super()._apply(*args, **kwargs)

    def run_whole(self, images: Tensor) -> Any:
        """All that the network computes of images (B, 3, H, W) by itself, to count what that costs."""
        return self.record(images, (self.depth,))

    def record(
        self, images: Tensor, needs: Iterable[int], places: Sequence[Place] = (), sources: Sequence[Source] = ()
    ) -> Record:
        """Run the tower to the deepest output that is needed, and no further, and keep those outputs.

        Args:
            images: (B, 3, H, W), normalised.
            needs: Block numbers, 0 for the embedding.
            places: See `Record`.
            sources: See `Record`.
        """
        needs, outputs = frozenset(needs), {}
        with self.own_precision(images.device):
            x, grid = self.embed(images)
            for number in range(max(needs) + 1):
                x = x if number == 0 else self.run_block(number, x)
                if number in needs:
                    outputs[number] = x
        return Record(self, images, grid, outputs, places, sources)
