"""An attention with a prior: CSA that prefers patches near by."""

import torch
from mmseg.registry import MODELS
from torch import Tensor

from mmseg_sclip.models import BlockInput
from mmseg_sclip.models.attention import CorrelativeSelfAttention


@MODELS.register_module()
class MyNeighbourAttention(CorrelativeSelfAttention):
    """CSA whose logits get a Gaussian bump around each patch.

    Args:
        sigma: Width of the bump, in patches.
    """

    def __init__(self, sigma: float = 5.0) -> None:
        super().__init__(projections=('q', 'k'))
        self.sigma = sigma

    def prior(self, b: BlockInput) -> Tensor:
        """(N, N), 1 on the diagonal, falling with distance; the class token has none."""
        height, width = b.grid
        rows = torch.arange(height, device=b.x.device).repeat_interleave(width)  # (h * w,)
        columns = torch.arange(width, device=b.x.device).repeat(height)  # (h * w,)
        places = torch.stack([rows, columns], dim=-1).to(b.x.dtype)  # (h * w, 2)
        squares = (places[:, None] - places[None]).square().sum(dim=-1)  # (h * w, h * w)
        bump = torch.exp(-squares / (2 * self.sigma**2))
        return torch.nn.functional.pad(bump, (b.prefix, 0, b.prefix, 0))  # (N, N)
