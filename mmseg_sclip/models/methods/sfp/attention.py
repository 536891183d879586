"""SFP's attention in the last block: patches attend where a middle block, queries and keys find them alike."""

from __future__ import annotations

from collections.abc import Mapping

from mmseg.registry import MODELS
from torch import Tensor

from ....checks import build_strategy
from ...record import Record
from ..sc_clip.attention import SelfCalibratedAttention
from .detectors import OutlierDetector


@MODELS.register_module()
class PurifiedAttention(SelfCalibratedAttention):
    """The mean of three softmaxes over patches (SFP, "Feature Purification Matters", ICCV 2025).

    The first one, shared by all heads, is SC-CLIP's, of cosines that are 0 below the threshold; the others are of the
    scaled products of the queries and of the keys. On the sum of the middle blocks the first one acts alone. An outlier
    that has outliers around it only becomes zero, and attends to itself alone in the first one, where the official code
    leaves nothing to attend to. That code also decodes positions with the number of rows, and so repairs wrong patches
    in windows that are not square, if it does not fail. Here they are the right ones.

    Args:
        detector: Config of an `OutlierDetector`; left out, an `AttentionOutliers`.
        affinity_block: See `SelfCalibratedAttention`.
        sharpness: See `SelfCalibratedAttention`.
        threshold: Cosines of the middle block below it become 0.
    """

    streams, level_streams, empty = ('q', 'k'), (), 'zero'

    def __init__(
        self,
        detector: Mapping | None = None,
        affinity_block: int = 9,
        sharpness: float = 3.0,
        threshold: float = 0.4,
    ) -> None:
        super().__init__(affinity_block, sharpness)
        detector = dict(type='AttentionOutliers') if detector is None else detector
        self.detector = build_strategy('backbone.decoder.attention.detector', detector, OutlierDetector)
        self.threshold = threshold

    def outliers(self, record: Record) -> Tensor:
        """(B, n), bool: the patches that the detector finds."""
        return self.detector(record)

    def affinity(self, record: Record, outliers: Tensor) -> Tensor:
        """(B, n, n), float32: cosines of the repaired patches of the middle block, 0 below the threshold."""
        cosines = super().affinity(record, outliers)
        return cosines.masked_fill(cosines < self.threshold, 0.0)
