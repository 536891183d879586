"""A refinement from outside the package: class scores are averaged over a square around each pixel."""

from mmseg.registry import MODELS
from torch import Tensor
from torch.nn import functional as F

from mmseg_sclip.models import Refinement


@MODELS.register_module()
class MySmoothing(Refinement):
    """Average the scores over (2 * radius + 1) x (2 * radius + 1) pixels.

    Args:
        radius: In pixels of the original image.
    """

    stage = 'class scores'  # or 'cosines', before the softmax

    def __init__(self, radius: int = 2) -> None:
        super().__init__()
        self.radius = radius

    def forward(self, scores: Tensor, image: Tensor) -> Tensor:
        """Scores (C, H, W) and the normalised image (3, H, W) to scores (C, H, W)."""
        side = 2 * self.radius + 1
        return F.avg_pool2d(scores[None], side, stride=1, padding=self.radius, count_include_pad=False)[0]
