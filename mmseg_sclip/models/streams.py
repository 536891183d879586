"""What flows between the image tower, the attentions, the decoders and the heads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor


class Memory(dict[int, Tensor]):
    """Recorded block outputs (B, N, width) by block number; 0 is the embedding.

    Attributes:
        images: (B, 3, H, W), the normalised windows that went through the tower.
        grid: (h, w) in patches; N = prefix + h * w.
    """

    def __init__(self, images: Tensor, grid: tuple[int, int]) -> None:
        super().__init__()
        self.images = images
        self.grid = grid


@dataclass
class Feedback:
    """What the pass before has computed, for decoders of several passes.

    Attributes:
        scores: (B, Q, h, w), the head's scores of the patches with the queries.
    """

    scores: Tensor


@dataclass
class BlockInput:
    """All that an attention may look at inside one block.

    Attributes:
        q: (B, heads, N, head_dim), the query projections, biases included, not scaled.
        k: (B, heads, N, head_dim), the keys.
        v: (B, heads, N, head_dim), the values.
        x: (B, N, width), the block's input after its first LayerNorm.
        grid: (h, w) in patches; N = prefix + h * w, rows first.
        prefix: 1, the number of tokens in front of the patches: the class token.
        scale: head_dim ** -0.5, to multiply the products of queries and keys with.
        images: (B, 3, H, W), the normalised windows.
        feedback: What the pass before has computed; None in the first pass.
        lookup: Gives the input of an earlier block; set by the tower.
        memory: The record of the windows, with the block outputs that the attention `needs`.
    """

    q: Tensor
    k: Tensor
    v: Tensor
    x: Tensor
    grid: tuple[int, int]
    prefix: int
    scale: float
    images: Tensor | None = None
    feedback: Feedback | None = None
    lookup: Callable[[int], BlockInput] | None = field(default=None, repr=False)
    memory: Memory | None = field(default=None, repr=False)

    def earlier(self, block: int) -> BlockInput:
        """The input of an earlier block, its q, k and v computed anew from the recorded stream.

        Args:
            block: The number of the block, from 1; negative numbers count from the end, -1 is the last block.

        Raises:
            LookupError: The output of the block before it is not in the attention's `needs`.
        """
        if self.lookup is None:
            raise LookupError('This BlockInput was made without a tower, so it cannot look up earlier blocks.')
        return self.lookup(block)


@dataclass
class Tokens:
    """Projected tokens, not normalised.

    Attributes:
        patches: (B, n, D), row by row.
        cls: (B, D), the class token of the decoder's own choice, or None.
        grid: (h, w) in patches; n = h * w.
        keys: (B, n, width), the keys of the last block behind its output projection, where they are asked for.
        affinity: (B, n, n), how the patches relate to each other, for heads that look at it.
        layers: (B, views, K, n, D), what K layers say of the patches, for heads that average over layers and views.
            Products with unit text vectors are their cosines, or sums of cosines of several patches.
    """

    patches: Tensor
    cls: Tensor | None
    grid: tuple[int, int]
    keys: Tensor | None = None
    affinity: Tensor | None = None
    layers: Tensor | None = None

    @property
    def map(self) -> Tensor:
        """The patches as a map (B, D, h, w)."""
        return self.patches.transpose(1, 2).unflatten(2, self.grid)
