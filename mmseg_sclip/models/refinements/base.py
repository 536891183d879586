"""What a refinement must offer."""

from __future__ import annotations

from mmseg.models import EncoderDecoder
from torch import Tensor, nn

COSINES, CLASS_SCORES = STAGES = ('cosines', 'class scores')


class Refinement(nn.Module):
    """Changes whole maps of scores, looking at the image; `test_cfg.refine` lists them in the order of their use.

    Attributes:
        stage: Which maps: 'cosines' of the phrases as they come from the windows, or 'class scores', the
            probabilities of the classes before the thresholds.
        needs_affinity: Whether `forward` gets a third argument, the `PatchAffinity` of the image, which the decoder
            must give and which exists in whole mode only.
        last: Whether no other refinement of its stage may follow.
    """

    stage: str = COSINES
    needs_affinity: bool = False
    last: bool = False

    def bind(self, segmentor: EncoderDecoder) -> None:
        """Learn what the segmentor knows, such as the mean and std of its images; called once, at build."""

    def forward(self, scores: Tensor, image: Tensor) -> Tensor:
        """Refine one image's scores.

        Args:
            scores: (K, H, W), float32, at the image's original size; not to be changed in place.
            image: (3, H, W), float32, the normalised image at the same size.

        Returns:
            (K, H, W), float32.
        """
        raise NotImplementedError(f'{type(self).__name__} must define forward(scores, image).')
