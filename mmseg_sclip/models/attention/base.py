"""The seam of the attentions: what one must offer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ...errors import ConfigError
from ..parts import Part
from ..record import BlockInput, Feedback, Record

_MAP = ('terms', 'weights')  # what says how the map is computed


class Attention(Part):
    """What attends to what inside a block.

    An attention derives from this class, registers itself with `mmseg.registry.MODELS` and writes `terms`; everything
    else has a default. A class that writes `terms` or `weights`, but not `attend`, gets the `attend` of this class,
    which follows them.

    `BlockInput.earlier(l)` wants l - 1 in its `needs`. With several `passes`, `BlockInput.feedback` is set from the
    second one on.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        first = next(base for base in cls.__mro__ if {*_MAP, 'attend'} & vars(base).keys())
        if 'attend' not in vars(first):
            # The fused one of a base class knows the map of that class only.
            cls.attend = Attention.attend  # type: ignore[method-assign]

    def block_input(self, number: int, record: Record, feedback: Feedback | None = None) -> BlockInput:
        """What it sees of a block where no decoder gives it something else; here the recorded stream."""
        return record.block_input(number, feedback=feedback)

    def terms(self, b: BlockInput) -> list[Tensor]:
        """Attention logits, scale included: one or more tensors (B, heads or 1, N, N)."""
        raise NotImplementedError(f'{type(self).__name__} must define terms(b), or weights(b).')

    def prior(self, b: BlockInput) -> Tensor | None:
        """(N, N), added to every term as the last thing before the softmax; None for no prior."""

    def weights(self, b: BlockInput, mix: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """The attention map (B, heads or 1, N, N): the sum of the terms' softmaxes, at least in float32.

        Rows need not sum to 1: two terms give rows that sum to 2.

        Args:
            b: The block's input.
            mix: Applied to each term before the prior is added; other attentions wrap this one with it.
        """
        prior = self.prior(b)
        total: Any = None
        for logits in self._checked(self.terms(b), b):
            logits = logits if mix is None else mix(logits)
            logits = logits if prior is None else logits + prior
            probabilities = logits.softmax(dim=-1, dtype=torch.promote_types(logits.dtype, torch.float32))
            total = probabilities if total is None else total + probabilities
        return total

    def attend(self, b: BlockInput) -> Tensor:
        """The attended values (B, heads, N, head_dim)."""
        return self.weights(b).to(b.v.dtype) @ b.v

    def _checked(self, terms: list[Tensor], b: BlockInput) -> list[Tensor]:
        """The terms, which must be a list: a tensor in its place would be summed over the images of a batch."""
        batch, heads, tokens, _ = b.v.shape
        if not isinstance(terms, (list, tuple)) or not terms:
            raise ConfigError(
                f'{type(self).__name__}.terms must return a list of tensors, such as [logits], but returned '
                f'{"an empty list" if isinstance(terms, (list, tuple)) else type(terms).__name__}.'
            )
        for logits in terms:
            if tuple(logits.shape) not in ((batch, heads, tokens, tokens), (batch, 1, tokens, tokens)):
                raise ConfigError(
                    f'{type(self).__name__}.terms returned a tensor {tuple(logits.shape)}; each must be '
                    f'(B, heads or 1, N, N), here ({batch}, {heads} or 1, {tokens}, {tokens}).'
                )
        return terms


class ProductAttention(Attention):
    """An attention whose terms are scaled products of queries and keys; no map is held in memory.

    An attention writes `pairs`.
    """

    def pairs(self, b: BlockInput) -> list[tuple[Tensor, Tensor, float]]:
        """Queries and keys (B, heads, N, head_dim), and the factor of their products, for each term."""
        raise NotImplementedError(f'{type(self).__name__} must define pairs(b).')

    def terms(self, b: BlockInput) -> list[Tensor]:
        """One (B, heads, N, N) term for each pair."""
        return [queries @ keys.transpose(-1, -2) * scale for queries, keys, scale in self.pairs(b)]

    def attend(self, b: BlockInput) -> Tensor:
        """The same as `weights(b) @ b.v`, fused."""
        prior = self.prior(b)
        mask = None if prior is None else prior.to(b.v.dtype)
        parts = [
            F.scaled_dot_product_attention(queries, keys, b.v, attn_mask=mask, scale=scale)
            for queries, keys, scale in self.pairs(b)
        ]
        return sum(parts[1:], parts[0])
