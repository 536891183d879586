"""MaskCLIP's attention: every token keeps its own value."""

import torch
from mmseg.registry import MODELS
from torch import Tensor

from .base import Attention, BlockInput


@MODELS.register_module()
class IdentityAttention(Attention):
    """Each token attends to itself only (MaskCLIP, section 3.2)."""

    def weights(self, b: BlockInput, mix=None) -> Tensor:
        """The unit matrix (B, 1, N, N); `mix` has no logits to work on and is ignored."""
        batch, _, tokens, _ = b.v.shape
        return torch.eye(tokens, dtype=b.v.dtype, device=b.v.device).expand(batch, 1, tokens, tokens)

    def attend(self, b: BlockInput) -> Tensor:
        """The values as they are, unless a subclass has weights of its own."""
        return b.v if type(self).weights is IdentityAttention.weights else super().attend(b)
