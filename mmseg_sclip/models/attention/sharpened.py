"""CLIP's attention with another temperature (SCLIP, Table 3)."""

from mmseg.registry import MODELS
from torch import Tensor

from .base import BlockInput
from .vanilla import VanillaSelfAttention


@MODELS.register_module()
class SharpenedSelfAttention(VanillaSelfAttention):
    """softmax(temperature * s q k^T); 1 is CLIP, more is sharper.

    The paper does not say whether its tau multiplies or divides; it is read as a factor, since its text
    calls larger values sharper.

    Args:
        temperature: The factor, positive.
    """

    def __init__(self, temperature: float = 2.0) -> None:
        super().__init__()
        if not temperature > 0:
            raise ValueError(f'SharpenedSelfAttention.temperature is {temperature!r}; it must be a positive number.')
        self.temperature = temperature

    def terms(self, b: BlockInput) -> list[Tensor]:
        """One (B, heads, N, N) term."""
        return [self.temperature * term for term in super().terms(b)]
