"""A head from outside the package: what all phrases have in common is taken out of the scores."""

from mmseg.registry import MODELS
from torch import Tensor

from mmseg_sclip.models import TextSimilarityHead


@MODELS.register_module()
class MyCentredHead(TextSimilarityHead):
    """Cosines minus a share of their mean over the queries.

    Args:
        share: 0 changes nothing, 1 takes the whole mean out.
        kwargs: Arguments of `TextSimilarityHead`.
    """

    def __init__(self, share: float = 1.0, **kwargs) -> None:
        super().__init__(**kwargs)
        self.share = share

    def forward(self, features) -> Tensor:
        """Scores (B, Q, h, w), float32."""
        cosines = super().forward(features)
        return cosines - self.share * cosines.mean(dim=1, keepdim=True)
