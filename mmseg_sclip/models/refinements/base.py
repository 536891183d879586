"""The seam of the refinements: what changes whole maps of scores, looking at the image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from mmseg.models import EncoderDecoder
from torch import Tensor, nn

from ..image.geometry import Placement
from ..image.scores import PixelScores, bands
from ..parts import Part
from ..record import Record, Source

if TYPE_CHECKING:
    from ..heads.text_similarity import TextSimilarityHead

COSINES, CLASS_SCORES, LABELS = STAGES = ('cosines', 'class scores', 'labels')


@dataclass
class ImageView:
    """What a refinement may look at besides the scores of an image.

    Attributes:
        image: (3, H, W), float32, the normalised image at its original size; for one that works `at_input` that of
            the network's input.
        head: The head that has made the scores; it knows the words.
        preprocessor: What has normalised the image.
        placement: How the patches of the image's windows lie on its pixels.
        seen: What this refinement has kept of the record; None unless the image is one window.
    """

    image: Tensor
    head: TextSimilarityHead
    preprocessor: nn.Module
    placement: Placement
    seen: Any = None

    @property
    def rgb(self) -> Tensor:
        """The image as it was before it was normalised: (3, H, W), uint8, RGB."""
        mean, std = (getattr(self.preprocessor, name).to(self.image) for name in ('mean', 'std'))
        return (self.image * std + mean).round().clamp(0, 255).byte()

    def best_at_pixels(self, maps: Tensor) -> Tensor:
        """The number of the largest map at each pixel, (H, W) int64, of maps (K, rows, columns) over the window."""
        scores = PixelScores(maps.transpose(0, 1), *self.placement.matrices(maps.shape[1:]))
        return torch.cat([scores.best(*band) for band in bands(scores)])


class Refinement(Part):
    """Changes whole maps of scores, looking at the image; `test_cfg.refine` lists them in the order of their use.

    A refinement writes `forward`. One that looks at more than the image writes `refine` in its place, and `look` where
    it wants something of the record; one of labels writes `relabel`. It keeps nothing of an image: several threads may
    use it at once.

    Attributes:
        stage: Which maps: 'cosines' of the phrases as they come from the windows, 'class scores', the probabilities of
            the classes before the thresholds, or the 'labels' after them.
        at_input: Whether it refines the cosines at the size of the network's input, which are brought to the original
            size afterwards. It stands before those that work at the original size.
        last: Whether no other refinement of its stage may follow.
        whole_image: Whether it looks at the patches of a whole image, so that sliding windows are refused.
    """

    stage: str = COSINES
    at_input: bool = False
    last: bool = False
    whole_image: bool = False

    def check(self, segmentor: EncoderDecoder) -> None:
        """Refuse a segmentor that this cannot work with; called when the segmentor is built.

        Raises:
            ConfigError: It cannot.
        """

    def look(self, record: Record) -> Tensor | None:
        """What `refine` shall find in `ImageView.seen`, of each window (B, ...); None for nothing."""

    def refine(self, scores: Tensor, view: ImageView) -> Tensor:
        """Refine one image's scores.

        Args:
            scores: (K, H, W), float32, at the image's original size, or that of `view.image`; not to be changed in
                place.
            view: What there is to look at.

        Returns:
            (K, H, W), float32.
        """
        return self(scores, view.image)

    def relabel(self, labels: Tensor, source: Source, model: EncoderDecoder) -> Tensor:
        """Refine one image's labels.

        Args:
            labels: (H, W), int64, at the image's original size; not to be changed in place.
            source: The image, with the `metainfo` of its sample.
            model: The segmentor, with its companions.

        Returns:
            (H, W), int64.
        """
        raise NotImplementedError(f'{type(self).__name__} must define relabel(labels, source, model).')

    def forward(self, scores: Tensor, image: Tensor) -> Tensor:
        """The same from the image alone.

        Args:
            scores: See `refine`.
            image: (3, H, W), float32, the normalised image at the same size.
        """
        raise NotImplementedError(f'{type(self).__name__} must define forward(scores, image).')
