"""Correlative self-attention (SCLIP, section 3.2)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal

from mmseg.registry import MODELS
from torch import Tensor, nn

from ...errors import ConfigError
from ...rules import Positive
from ..record import BlockInput
from .base import ProductAttention
from .projections import Projection, build_projection


@MODELS.register_module()
class CorrelativeSelfAttention(ProductAttention):
    """Tokens attend where their own projection is alike: softmax(p p^T / tau) over one or more projections p.

    SCLIP sums the softmaxes of q and k, so the rows sum to 2; because the residual is kept, averaging
    would change the result.

    Args:
        projections: One or more of 'q', 'k', 'v', 'identity', 'random' and 'learned', or configs such as
            dict(type='RandomProjection', count=4, seed=1); none twice.
        reduction: 'sum' or 'mean' of the softmaxes.
        tau: Divides the products; None for the square root of the head dimension.
        gain: Multiplies the map. With one projection, 2 gives the rows the sum of SCLIP's.
    """

    def __init__(
        self,
        projections: str | Mapping | Projection | Sequence[str | Mapping | Projection] = ('q', 'k'),
        reduction: Literal['sum', 'mean'] = 'sum',
        tau: Annotated[float, Positive] | None = None,
        gain: Annotated[float, Positive] = 1,
    ) -> None:
        super().__init__()
        entries = [projections] if isinstance(projections, (str, Mapping, Projection)) else list(projections)
        if not entries or any(entry in entries[:i] for i, entry in enumerate(entries)):
            raise ConfigError(
                f"projections is {projections!r}; it must name at least one, and none twice. SCLIP's are ('q', 'k')."
            )
        self.projections: Any = nn.ModuleList(build_projection(entry) for entry in entries)
        self.reduction = reduction
        self.tau = tau
        self.gain = gain

    def pairs(self, b: BlockInput) -> list[tuple[Tensor, Tensor, float]]:
        """Each stream with itself, scaled after the product."""
        scale = b.scale if self.tau is None else 1 / self.tau
        return [(stream, stream, scale) for projection in self.projections for stream in projection(b)]

    def weights(self, b: BlockInput, mix: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """The sum or the mean of the terms' softmaxes, times the gain: (B, heads, N, N)."""
        return self._reduce(super().weights(b, mix))

    def attend(self, b: BlockInput) -> Tensor:
        """The same as `weights(b) @ b.v`, fused."""
        return self._reduce(super().attend(b))

    def _reduce(self, total: Tensor) -> Tensor:
        if self.reduction == 'mean':
            total = total / sum(projection.streams for projection in self.projections)
        return total if self.gain == 1 else total * self.gain
