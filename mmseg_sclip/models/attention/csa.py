"""Correlative self-attention (SCLIP, section 3.2)."""

from collections.abc import Sequence

from mmseg.registry import MODELS
from torch import Tensor

from ...utils.checks import check_choice
from .base import Attention, BlockInput


@MODELS.register_module()
class CorrelativeSelfAttention(Attention):
    """Tokens attend where their own projection is alike: the sum of softmax(s p p^T) over projections p.

    The softmaxes are summed, not averaged, so the rows of SCLIP's q and k sum to 2; because the
    residual is kept, halving them would change the result.

    Args:
        projections: A non-empty selection of 'q', 'k' and 'v'.
    """

    def __init__(self, projections: Sequence[str] = ('q', 'k')) -> None:
        super().__init__()
        if isinstance(projections, str):
            projections = (projections,)
        for name in projections:
            check_choice('An entry of projections', name, ('q', 'k', 'v'))
        if not projections or len(set(projections)) < len(projections):
            raise ValueError(
                f'projections is {tuple(projections)!r}; it must name at least one of q, k, v, '
                "each at most once. SCLIP's are ('q', 'k')."
            )
        self.projections = tuple(projections)

    def terms(self, b: BlockInput) -> list[Tensor]:
        """One (B, heads, N, N) term a projection, scaled after the product."""
        chosen = [getattr(b, name) for name in self.projections]
        return [p @ p.transpose(-1, -2) * b.scale for p in chosen]
