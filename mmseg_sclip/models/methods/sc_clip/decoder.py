"""SC-CLIP's decoder: outlying patches are repaired, alike ones averaged, and middle blocks added."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from mmseg.registry import MODELS
from torch import Tensor

from ....checks import build_strategy
from ....errors import ConfigError
from ...decoders.base import Decoder
from ...precision import without_autocast
from ...record import BlockInput, Feedback, Record
from ...tokens import Tokens
from .attention import SelfCalibratedAttention
from .outliers import cosine_affinity, normalise_rows, repair_tokens

if TYPE_CHECKING:
    from ...towers.image import ImageTower


@MODELS.register_module()
class SelfCalibratedDecoder(Decoder):
    """The last block, without residual and feed-forward part, on calibrated patches (SC-CLIP, arXiv 2411.15869).

    1. Before the last block outliers are repaired, and patches that a middle block finds alike are averaged.
    2. The last block's attention runs on these patches, and on the sum of the outputs of middle blocks; the class token
       of each stream is added to all of its patches.
    3. Patches that an early block finds alike are averaged, and the two streams added.

    The defaults are the paper's values for ViT-B/16; those for ViT-L/14 are in configs/_base_/models/sc_clip_l14.py.
    The official code takes one square window at a time: it finds an outlier's neighbours on the grid by a division by
    the number of rows, which on other grids repairs the wrong patches. Here windows are of any shape and number.

    Args:
        attention: Config of a `SelfCalibratedAttention`; its middle block is that of step 1, too.
        threshold: Cosines below it do not count where alike patches are averaged.
        smoothing_block: The early block of step 3, from 1, or negative from the end.
        levels: The first and the last of the middle blocks of step 2.
        cls_weight: Weight of the class token in step 2.
    """

    attends = SelfCalibratedAttention
    gives_class_token = False

    def __init__(
        self,
        attention: Mapping,
        threshold: float = 0.4,
        smoothing_block: int = 4,
        levels: tuple[int, int] = (4, 10),
        cls_weight: float = 0.3,
    ) -> None:
        super().__init__()
        self.attention = build_strategy('backbone.decoder.attention', attention, self.attends)
        self.threshold = threshold
        self.smoothing_block = smoothing_block
        self.levels = levels
        self.cls_weight = cls_weight

    def bind(self, tower: ImageTower) -> None:
        """Ask for the early block and the middle blocks.

        Raises:
            ConfigError: There is no such block, or `levels` are not in order.
        """
        super().bind(tower)
        self.smoothing_block = tower.block_number(self.smoothing_block)
        first, last = (tower.block_number(number) for number in self.levels)
        if first > last:
            raise ConfigError(
                f'backbone.decoder.levels is {self.levels}; it must be the first and the last of the blocks that are '
                'added up, such as (4, 10).'
            )
        self.levels = (first, last)
        self.needs |= {self.smoothing_block, *range(first, last + 1)}

    def forward(self, record: Record, feedback: Feedback | None = None) -> Tokens:
        """Run the last block on both streams; there is no class token after it."""
        calibrated, affinity = self._calibrate(record)
        shared = self.attention.shared(affinity)
        first, last = self.levels
        levels = sum((record[number] for number in range(first + 1, last + 1)), record[first])
        patches = self._last_block(record, shared, calibrated, self.attention.streams)
        patches = patches + self._last_block(record, shared, levels, self.attention.level_streams)
        patches = _average(cosine_affinity(record.patches(self.smoothing_block)), self.threshold, patches)
        return Tokens(record.tower.project(patches), None, record.grid)

    def block_input(self, number: int, record: Record, feedback: Feedback | None = None) -> BlockInput:
        """What the attention sees: in the last block the calibrated patches."""
        stream = self._calibrate(record)[0] if number == record.tower.depth else None
        return record.block_input(number, stream, feedback)

    def _calibrate(self, record: Record) -> tuple[Tensor, Tensor]:
        """The input of the last block (B, N, width), after step 1, and the cosines (B, n, n) of the middle block."""
        outliers = self.attention.outliers(record)
        affinity = self.attention.affinity(record, outliers)
        cls, patches = record[record.tower.depth - 1].split([record.tower.prefix, outliers.shape[1]], dim=1)
        patches = _average(
            affinity, self.threshold, repair_tokens(patches, outliers, record.grid, self.attention.empty)
        )
        return torch.cat([cls, patches], dim=1), affinity

    def _last_block(self, record: Record, shared: Tensor, stream: Tensor, streams: Sequence[str]) -> Tensor:
        """Patches (B, n, width) of a stream (B, N, width) after the attention, with its class token added."""
        tower = record.tower
        b = record.block_input(tower.depth, stream)
        attended = tower.attention_branch(tower.depth, self.attention.attend_patches(b, shared, streams))
        return attended + self.cls_weight * stream[:, : tower.prefix]


def _average(affinity: Tensor, threshold: float, patches: Tensor) -> Tensor:
    """Each patch (B, n, width) becomes the average of those it is alike, by cosines (B, n, n) from the threshold on."""
    weights = normalise_rows(affinity.masked_fill(affinity < threshold, 0.0))
    with without_autocast(patches.device):
        return (weights @ patches.float()).to(patches.dtype)
