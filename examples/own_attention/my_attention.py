"""An attention from outside the package: tokens attend by the cosine of their keys."""

from mmseg.registry import MODELS
from torch import Tensor
from torch.nn import functional as F

from mmseg_sclip.models import Attention, BlockInput


@MODELS.register_module()
class MyCosineAttention(Attention):
    """softmax(sharpness * cos(k_i, k_j)); a sharpness of 0 averages over all tokens."""

    def __init__(self, sharpness: float = 10.0) -> None:
        super().__init__()
        self.sharpness = sharpness

    def terms(self, b: BlockInput) -> list[Tensor]:
        """One (B, heads, N, N) term."""
        k = F.normalize(b.k, dim=-1)  # (B, heads, N, head_dim)
        return [self.sharpness * k @ k.transpose(-1, -2)]
