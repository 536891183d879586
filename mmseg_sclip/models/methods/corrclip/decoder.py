"""CorrCLIP's decoder: values of the last block and of middle blocks, and a class token for each region."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from mmseg.registry import MODELS
from torch import Tensor

from ....checks import build_strategy
from ....errors import ConfigError
from ...companions import nearest
from ...decoders.base import Decoder
from ...record import BlockInput, Feedback, Record
from ...tokens import Tokens
from .attention import RegionScopedAttention
from .merging import Regions
from .semantic import region_class_tokens

if TYPE_CHECKING:
    from ....towers.image import ImageTower


@MODELS.register_module()
class CorrCLIPDecoder(Decoder):
    """The last block without residual and feed-forward part, on regions (CorrCLIP v1, ICCV 2025).

    Three branches are added up after the final LayerNorm, each on the grid of a second network:

    1. The last block's values, enlarged to that grid, mixed by the attention.
    2. The same of the mean of middle blocks' outputs, by the weights of the last block.
    3. A class token for each region, which has seen the patches of this region only; each patch takes its region's.

    The defaults are those of ViT-B/16. For ViT-L/14 the official code takes the middle blocks (-14, -3).

    Args:
        attention: Config of a `RegionScopedAttention`.
        levels: The first and the last of the middle blocks of the second branch.
        spatial_weight: Weight of the second branch.
        semantic_weight: Weight of the third branch.
    """

    attends = RegionScopedAttention
    gives_class_token = False

    def __init__(
        self,
        attention: Mapping,
        levels: tuple[int, int] = (-7, -3),
        spatial_weight: float = 1.0,
        semantic_weight: float = 0.5,
    ) -> None:
        super().__init__()
        self.attention = build_strategy('backbone.decoder.attention', attention, self.attends)
        self.levels = levels
        self.spatial_weight = spatial_weight
        self.semantic_weight = semantic_weight

    def bind(self, tower: ImageTower) -> None:
        """Ask for the inputs of all blocks.

        Raises:
            ConfigError: There is no such block, or `levels` are not in order.
        """
        super().bind(tower)
        first, last = (tower.block_number(number) for number in self.levels)
        if not 1 <= first <= last:
            raise ConfigError(
                f'backbone.decoder.levels is {self.levels}; it must be the first and the last of the blocks that are '
                'averaged, such as (-7, -3).'
            )
        self.blocks = range(first, last + 1)
        self.needs |= {*range(tower.depth), *self.blocks}

    def block_input(self, number: int, record: Record, feedback: Feedback | None = None) -> BlockInput:
        """What the attention sees: the patches of the block, enlarged to the grid of the second network."""
        return self.attention.block_input(number, record, feedback)

    def forward(self, record: Record, feedback: Feedback | None = None) -> Tokens:
        """Tokens on the grid of the second network; there is no class token."""
        tower, regions = record.tower, record.once(self.attention.scopes)[1]
        main, spatial = self.patch_branches(record)
        patches = tower.project(main) + self.spatial_weight * tower.project(spatial)
        if self.semantic_weight:
            small, tokens = self.semantic_branch(record)
            painted = nearest(small.ids, regions.ids.shape[1:]).flatten(1)[..., None]
            tokens = self.semantic_weight * tower.project(tokens)
            patches = patches + tokens.gather(1, painted.expand(-1, -1, tokens.shape[-1]))
        return Tokens(patches, None, tuple(regions.ids.shape[1:]))

    def patch_branches(self, record: Record) -> tuple[Tensor, Tensor]:
        """The first and the second branch, (B, n, width) each, before the final LayerNorm."""
        tower = record.tower
        mean = sum((record[number] for number in self.blocks[1:]), record[self.blocks[0]]) / len(self.blocks)
        streams = [record[tower.depth - 1], mean]
        values = [tower.project_values(tower.depth, tower.norm(tower.depth, stream)) for stream in streams]
        heads = values[0].shape[1]
        joined = torch.cat([v[:, :, tower.prefix :].transpose(1, 2).flatten(2) for v in values], dim=2)
        mixed = self.attention.mix(record, joined, record.grid)
        main, spatial = (
            tower.attention_branch(tower.depth, part.unflatten(2, (heads, -1)).transpose(1, 2))
            for part in mixed.chunk(2, dim=2)
        )
        return main, spatial

    def semantic_branch(self, record: Record) -> tuple[Regions, Tensor]:
        """The third branch: regions on CLIP's grid, and their tokens (B, regions, width) before the final LayerNorm."""
        regions = record.once(self.attention.scopes)[1]
        small = Regions(nearest(regions.ids, record.grid), regions.most)
        return small, region_class_tokens(record, small)
