"""CLIP's attention with another temperature (SCLIP, Table 3)."""

import math

from mmseg.registry import MODELS
from torch import Tensor

from ...errors import ConfigError
from ..streams import BlockInput
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
        if not (temperature > 0 and math.isfinite(temperature)):
            raise ConfigError(f'SharpenedSelfAttention.temperature is {temperature!r}; it must be a positive number.')
        self.temperature = temperature

    def pairs(self, b: BlockInput) -> list[tuple[Tensor, Tensor, float]]:
        """Queries with keys, at the other temperature."""
        return [(queries, keys, self.temperature * scale) for queries, keys, scale in super().pairs(b)]
