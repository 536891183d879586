"""An attention of two passes: in the second, patches that found the same phrase attend to each other more."""

from mmseg.registry import MODELS
from torch import Tensor
from torch.nn import functional as F

from mmseg_sclip.models import BlockInput
from mmseg_sclip.models.attention import CorrelativeSelfAttention


@MODELS.register_module()
class MyTwoPassAttention(CorrelativeSelfAttention):
    """CSA, then CSA again with a bonus between patches of the same best phrase.

    Args:
        bonus: Added to their logits.
    """

    passes = 2

    def __init__(self, bonus: float = 1.0) -> None:
        super().__init__(projections=('q', 'k'))
        self.bonus = bonus

    def terms(self, b: BlockInput) -> list[Tensor]:
        """Two (B, heads, N, N) terms."""
        terms = super().terms(b)
        if b.feedback is None:  # the first pass
            return terms
        best = b.feedback.scores.argmax(dim=1).flatten(1)  # (B, h * w)
        same = (best[:, :, None] == best[:, None, :]).to(b.q.dtype)  # (B, h * w, h * w)
        same = F.pad(same, (b.prefix, 0, b.prefix, 0))[:, None]  # (B, 1, N, N), nothing for the class token
        return [term + self.bonus * same for term in terms]
