"""MaskCLIP's attention: every token keeps its own value."""

from collections.abc import Callable

import torch
from mmseg.registry import MODELS
from torch import Tensor

from ..record import BlockInput
from .base import Attention


@MODELS.register_module()
class IdentityAttention(Attention):
    """Each token attends to itself only (MaskCLIP, section 3.2)."""

    def weights(self, b: BlockInput, mix: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """The unit matrix (B, 1, N, N); there are no logits that `mix` could change."""
        batch, _, tokens, _ = b.v.shape
        dtype = torch.promote_types(b.v.dtype, torch.float32)
        return torch.eye(tokens, dtype=dtype, device=b.v.device).expand(batch, 1, tokens, tokens)

    def attend(self, b: BlockInput) -> Tensor:
        """The values as they are."""
        return b.v
