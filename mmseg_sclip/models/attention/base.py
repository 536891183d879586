"""What an attention strategy may look at, and what it must offer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from ..clip.tower import VisionTower


@dataclass
class Feedback:
    """What the pass before has found, for strategies of several passes.

    Attributes:
        crop: (B, 3, H, W), the normalised input of the pass.
        scores: (B, Q, h, w), cosines of the patches with the queries.
    """

    crop: Tensor
    scores: Tensor


@dataclass
class BlockInput:
    """All that an attention may look at inside one block.

    Attributes:
        q: (B, heads, N, head_dim), the query projections, biases included.
        k: (B, heads, N, head_dim), the keys.
        v: (B, heads, N, head_dim), the values.
        x: (B, N, width), the block's input after its first LayerNorm.
        grid: (h, w) in patches; N = prefix + h * w, rows first.
        prefix: 1 with the class token in front, 0 without.
        scale: head_dim ** -0.5.
        feedback: The findings of the pass before; None in the first pass.
        lookup: Gives the input of an earlier block; set by the tower.
    """

    q: Tensor
    k: Tensor
    v: Tensor
    x: Tensor
    grid: tuple[int, int]
    prefix: int
    scale: float
    feedback: Feedback | None = None
    lookup: Callable[[int], BlockInput] | None = field(default=None, repr=False)

    def earlier(self, block: int) -> BlockInput:
        """The input of an earlier block, its q, k and v recomputed from the recorded stream.

        Args:
            block: Counts from 1; negative numbers count from the end, -1 is the last block.

        Raises:
            LookupError: The output of the block before it is not in the attention's `needs`.
        """
        if self.lookup is None:
            raise LookupError('This BlockInput was made without a tower, so it cannot look up earlier blocks.')
        return self.lookup(block)


class Attention(nn.Module):
    """What attends to what inside a block.

    A strategy derives from this class, registers itself with `mmseg.registry.MODELS` and writes
    `terms`; everything else has a default. Where it inherits from another strategy, `weights` and `attend` must
    go on saying the same.

    Attributes:
        needs: Block outputs that `earlier` shall read: 0 is the embedding, l the output of block l.
            `earlier(l)` wants l - 1 in it. Final after `bind`.
        passes: How often the decoder runs over one record; from the second pass on,
            `BlockInput.feedback` is set.
    """

    needs: frozenset[int] = frozenset()
    passes: int = 1

    def bind(self, tower: VisionTower) -> None:
        """Learn depth, width and heads of the tower; parameters are made here, once, at build."""

    def terms(self, b: BlockInput) -> list[Tensor]:
        """Attention logits, scale included: one or more tensors (B, heads or 1, N, N)."""
        raise NotImplementedError(f'{type(self).__name__} must define terms(b), or both weights(b) and attend(b).')

    def prior(self, b: BlockInput) -> Tensor | None:
        """(N, N), added to every term as the last thing before the softmax; None for no prior."""

    def weights(self, b: BlockInput, mix: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """The attention map (B, heads or 1, N, N): the sum of the terms' softmaxes, at least in float32.

        Rows need not sum to 1: two terms give rows that sum to 2.

        Args:
            b: The block's input.
            mix: Applied to each term before the prior is added; other strategies wrap this one with it.
        """
        prior = self.prior(b)
        total = None
        for logits in self._checked(self.terms(b), b):
            logits = logits if mix is None else mix(logits)
            logits = logits if prior is None else logits + prior
            probabilities = logits.softmax(dim=-1, dtype=torch.promote_types(logits.dtype, torch.float32))
            total = probabilities if total is None else total + probabilities
        return total

    def _checked(self, terms: list[Tensor], b: BlockInput) -> list[Tensor]:
        """The terms, which must be a list: a tensor in its place would be summed over the images of a batch."""
        if not isinstance(terms, (list, tuple)) or not terms:
            raise TypeError(
                f'{type(self).__name__}.terms must return a list of tensors, such as [logits], but returned '
                f'{"an empty list" if isinstance(terms, (list, tuple)) else type(terms).__name__}.'
            )
        batch, heads, tokens, _ = b.v.shape
        for logits in terms:
            if (
                logits.ndim != 4
                or logits.shape[0] != batch
                or logits.shape[1] not in (1, heads)
                or logits.shape[2:] != (tokens, tokens)
            ):
                raise ValueError(
                    f'{type(self).__name__}.terms returned a tensor {tuple(logits.shape)}; each must be '
                    f'(B, heads or 1, N, N), here ({batch}, {heads} or 1, {tokens}, {tokens}).'
                )
        return terms

    def attend(self, b: BlockInput) -> Tensor:
        """The attended values (B, heads, N, head_dim)."""
        return self.weights(b).to(b.v.dtype) @ b.v
