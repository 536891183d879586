"""CLIP's own attention."""

from mmseg.registry import MODELS
from torch import Tensor

from ..record import BlockInput
from .base import ProductAttention


@MODELS.register_module()
class VanillaSelfAttention(ProductAttention):
    """softmax(s q k^T), the attention that CLIP was trained with: the dense CLIP baseline."""

    def pairs(self, b: BlockInput) -> list[tuple[Tensor, Tensor, float]]:
        """Queries with keys."""
        return [(b.q, b.k, b.scale)]
