"""Attention within a window of the grid (SCLIP, Table 3)."""

from __future__ import annotations

import torch
from mmseg.registry import MODELS
from torch import Tensor

from ...errors import ConfigError
from ..streams import BlockInput
from .vanilla import VanillaSelfAttention


@MODELS.register_module()
class LocalSelfAttention(VanillaSelfAttention):
    """CLIP's attention, in which a patch sees only the window x window patches around it.

    The class token sees itself only, and no patch sees it, so a window of 1 is MaskCLIP.

    Args:
        window: Side in patches, odd.
    """

    def __init__(self, window: int = 3) -> None:
        super().__init__()
        if not isinstance(window, int) or window < 1 or window % 2 == 0:
            raise ConfigError(
                f'LocalSelfAttention.window is {window!r}; it must be an odd number of patches, from 1 on.'
            )
        self.window = window

    def prior(self, b: BlockInput) -> Tensor:
        """(N, N): 0 where a token may look, minus infinity elsewhere."""
        rows, cols = (torch.arange(side, device=b.q.device) for side in b.grid)
        places = torch.cartesian_prod(rows, cols)  # (n, 2)
        near = (places[:, None] - places[None]).abs().amax(-1) <= self.window // 2
        seen = torch.eye(b.prefix + len(places), dtype=torch.bool, device=b.q.device)
        seen[b.prefix :, b.prefix :] = near
        return torch.zeros(seen.shape, dtype=b.q.dtype, device=b.q.device).masked_fill_(~seen, float('-inf'))
