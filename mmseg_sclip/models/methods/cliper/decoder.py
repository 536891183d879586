"""The decoder of CLIPer: the last block reads every block, with the attention of all of them (CLIPer, ICCV 2025)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import torch
from mmseg.registry import MODELS
from torch import Tensor
from torch.nn import functional as F

from ....checks import build_strategy
from ....errors import ConfigError
from ....rules import AtLeast
from ...decoders.base import Decoder
from ...image.windows import WindowGrid
from ...precision import without_autocast
from ...record import Feedback, Record
from ...tokens import Tokens
from .attention import EarlyLayerAttention

if TYPE_CHECKING:
    from ...towers.image import ImageTower


@dataclass
class LayerTokens(Tokens):
    """Tokens of the last source, beside those of all.

    Attributes:
        affinity: (B, n, n), how the patches relate to each other.
        layers: (B, views, K, n, D), what K sources say of the patches. Products with unit text vectors are their
            cosines, or sums of cosines of several patches.
    """

    affinity: Tensor
    layers: Tensor


@MODELS.register_module()
class EarlyLayerFusion(Decoder):
    """The values of the last block, taken of the input of every block, attended to with `EarlyLayerAttention`.

    Source k is LN1_k(x_k), x_k being the input of block k; of the last block it is the input itself. The last block's
    own LayerNorm, values and output projection follow for each of them, without residual and feed-forward part. Like
    the official code it lets the sources before the last through two LayerNorms.

    With `crop_size`, windows of the image go through the tower too, and what they find is averaged over the image:
    the unit tokens of each source, and the affinity, which then sums up the tokens of all patches.

    Args:
        attention: Config of an `EarlyLayerAttention`.
        crop_size: Side of these windows in pixels, rounded down to whole patches; None for none. CLIPer takes 224, and
            336 for VOC.
        stride: Pixels between them, rounded down to whole patches.

    Raises:
        ConfigError: A window is smaller than the stride.
    """

    attends = EarlyLayerAttention
    gives = LayerTokens

    def __init__(
        self,
        attention: Mapping | None = None,
        crop_size: Annotated[int, AtLeast(1)] | None = None,
        stride: Annotated[int, AtLeast(1)] = 112,
    ) -> None:
        super().__init__()
        if crop_size is not None and stride > crop_size:
            raise ConfigError(
                f'backbone.decoder.stride is {stride} and crop_size {crop_size}: a stride beyond the crop leaves '
                'patches uncovered. Use a stride of at most the crop.'
            )
        config = dict(type='EarlyLayerAttention') if attention is None else attention
        self.attention = build_strategy('backbone.decoder.attention', config, self.attends)
        self.crop_size = crop_size
        self.stride = stride

    def bind(self, tower: ImageTower) -> None:
        """Ask for the inputs of all blocks."""
        super().bind(tower)
        self.needs |= set(range(tower.depth))

    def forward(self, record: Record, feedback: Feedback | None = None) -> LayerTokens:
        """Tokens of the last source, with the affinity of the last round and the `layers` of one view or two."""
        prefix = record.tower.prefix
        tokens, affinity = self._fuse(record)
        patches = tokens[:, :, prefix:]  # (B, K, n, D)
        views = [F.normalize(patches.float(), dim=-1)]
        if self.crop_size is not None:
            views.append(self._windows(record, self.crop_size))
        last = tokens[:, -1]
        return LayerTokens(last[:, prefix:], last[:, 0], record.grid, affinity, torch.stack(views, dim=1))

    def _fuse(self, record: Record) -> tuple[Tensor, Tensor]:
        """Tokens of all sources (B, K, N, D), and the affinity of the patches (B, n, n), the mean of the heads."""
        tower = record.tower
        last, outputs = tower.depth, []
        for number, weights in enumerate(self.attention.rounds(record.block_input(last)), 1):
            x = record[number - 1]
            x = x if number == last else tower.norm(number, x)
            values = record.block_input(last, stream=x).v
            outputs.append(tower.attention_branch(last, weights.to(values.dtype) @ values))
        affinity = weights.mean(dim=1)[:, tower.prefix :, tower.prefix :]
        return tower.project(torch.stack(outputs, dim=1)), affinity

    def _windows(self, record: Record, crop_size: int) -> Tensor:
        """(B, K, n, D): unit tokens averaged over windows, and summed up by the affinity averaged over windows."""
        tower, images, (rows, columns) = record.tower, record.images, record.grid
        patch = tower.patch_size
        size, step = ([max(1, length // side) for side in patch] for length in (crop_size, self.stride))
        windows = WindowGrid.cut(rows, columns, size, step).windows  # in patches
        places = torch.arange(rows * columns, device=images.device).view(rows, columns)
        places = torch.stack([places[top:bottom, left:right].flatten() for top, bottom, left, right in windows])
        cut = [
            images[:, :, top * patch[0] : bottom * patch[0], left * patch[1] : right * patch[1]]
            for top, bottom, left, right in windows
        ]
        crops = torch.stack(cut, dim=1)  # (B, windows, 3, height, width)
        tokens, affinity = self._fuse(tower.record(crops.flatten(0, 1), self.needs))
        tokens = F.normalize(tokens[:, :, tower.prefix :].float(), dim=-1).unflatten(0, crops.shape[:2])
        affinity = affinity.float().unflatten(0, crops.shape[:2])  # (B, windows, m, m)

        n = rows * columns
        tokens = tokens.permute(0, 2, 1, 3, 4).flatten(2, 3)  # (B, K, windows * m, D)
        affinity = affinity.flatten(1)  # (B, windows * m * m)
        places, pairs = places.flatten(), (places[:, :, None] * n + places[:, None]).flatten()
        seen, seen_together = (
            images.new_zeros(length, dtype=torch.float32).index_add_(0, index, torch.ones_like(index).float())
            for length, index in ((n, places), (n * n, pairs))
        )
        mean = tokens.new_zeros(*tokens.shape[:2], n, tokens.shape[-1]).index_add_(2, places, tokens) / seen[:, None]
        graph = affinity.new_zeros(len(images), n * n).index_add_(1, pairs, affinity) / (seen_together + 1e-5)
        graph = graph.view(-1, n, n)
        graph = graph / graph.sum(dim=-1, keepdim=True)
        with without_autocast(images.device):
            return graph.transpose(1, 2)[:, None] @ mean
