"""CLIP's own attention."""

from mmseg.registry import MODELS
from torch import Tensor
from torch.nn import functional as F

from .base import Attention, BlockInput


@MODELS.register_module()
class VanillaSelfAttention(Attention):
    """softmax(s q k^T), the attention that CLIP was trained with: the dense CLIP baseline."""

    def terms(self, b: BlockInput) -> list[Tensor]:
        """One (B, heads, N, N) term."""
        return [b.q * b.scale @ b.k.transpose(-1, -2)]

    def attend(self, b: BlockInput) -> Tensor:
        """The same as `weights(b) @ b.v`, without holding the map where a subclass changes nothing of it."""
        cls = type(self)
        if (cls.terms, cls.prior, cls.weights) != (VanillaSelfAttention.terms, Attention.prior, Attention.weights):
            return super().attend(b)
        return F.scaled_dot_product_attention(b.q, b.k, b.v, scale=b.scale)
