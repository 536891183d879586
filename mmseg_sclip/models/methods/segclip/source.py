"""SegCLIP's released weights: a CLIP whose image tower gathers patches in eight groups."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from mmseg.registry import MODELS
from torch import Tensor

from ....compat import open_clip
from ...clip.fine_tuned import FineTunedClip
from ...clip.fused import fuse_block
from ...clip.positions import POSITION_RULES
from ...image.patches import embed_patches
from ...pretrained import Pretrained
from ...record import Record
from ...tokens import GroupTokens
from ...towers.groups import GroupTower
from ...towers.released import RELEASED
from .learner import SemanticLearner

_AFTER = 2  # blocks behind the groups; all others are before them
_BLOCKS = 'visual.transformer.resblocks.'
_FILE = 'clip.visual.transformer.'


class SegclipTower(GroupTower):
    """CLIP's blocks on patches alone, the semantic learner, and two blocks on its groups (ICML 2023, section 3).

    The official code groups windows of 196 or 784 patches only; here any grid will do.

    Args:
        visual: A Vision Transformer of open_clip with SegCLIP's weights. Its blocks are exchanged for fused ones.
        positions: Name of the rule that fits the positional table to other grids.
        learner: With its weights.
    """

    def __init__(
        self, visual: open_clip.transformer.VisionTransformer, positions: str, learner: SemanticLearner
    ) -> None:
        super().__init__()
        self.visual, self.learner = visual, learner
        self.fit_positions = POSITION_RULES[positions]
        self.width, self.out_dim = visual.transformer.width, visual.output_dim
        self.patch_size = tuple(visual.patch_size)
        blocks = visual.transformer.resblocks
        for index, block in enumerate(blocks):
            blocks[index] = fuse_block(block)

    def embed(self, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """See `ImageTower.embed`; without CLIP's class token."""
        self.check_size(images)
        visual = self.visual
        x, grid = embed_patches(images, visual.conv1.weight)
        positions = self.fit_positions(visual.positional_embedding, visual.grid_size, grid)
        return visual.ln_pre(x + positions[1:].to(x)), grid

    def forward(self, record: Record) -> GroupTokens:
        """See `GroupTower`; a window is the largest of its groups, channel by channel."""
        x, blocks = record[0], self.visual.transformer.resblocks
        for block in blocks[:-_AFTER]:
            x = block(x)
        groups, shares = self.learner(x)
        for block in blocks[-_AFTER:]:
            groups = block(groups)
        rows = torch.cat([groups.amax(dim=1, keepdim=True), groups], dim=1)
        rows = self.visual.ln_post(rows) @ self.visual.proj
        return GroupTokens.of(rows[:, 1:], rows[:, 0], shares.unflatten(2, record.grid))


@MODELS.register_module()
class SegclipSource(FineTunedClip):
    """SegCLIP: a CLIP with a semantic learner, trained on image captions (arXiv 2211.14813).

    Args:
        clip: The CLIP that it began with, see `FineTunedClip`; the released file is of 'ViT-B-16-quickgelu'.
        pretrained: As in `ReleasedSource`; None for an untrained learner, whose groups mean nothing.
    """

    release = Pretrained(
        what='SegCLIP',
        setting='model.clip.pretrained',
        names=('segclip.bin',),
        published='https://github.com/ArrowLuo/SegCLIP/releases/tag/checkpoint_v0',
        licence='none given',
    )
    outer_key = None
    scale_entry = 'clip.logit_scale'
    # What only the training of a masked autoencoder reads.
    ignored = ('vis_mae_decoder.', f'{_FILE}layers_mae2.', f'{_FILE}reconstruct_layer2.')

    def __init__(self, clip: Mapping, pretrained: str | None = RELEASED) -> None:
        super().__init__(clip, pretrained)
        # CLIP's own, where ClipSource rounds to thousandths.
        self.mean, self.std = (
            tuple(255 * value for value in values)
            for values in (self.base.architecture.mean, self.base.architecture.std)
        )

    def make_network(self, visual: Any) -> SemanticLearner:
        """See `FineTunedClip`."""
        return SemanticLearner(visual)

    def file_name(self, name: str) -> str:
        """See `FineTunedClip`."""
        if name.startswith('network.'):
            return f'{_FILE}semantic_layer2.{name.removeprefix("network.")}'
        if not name.startswith(_BLOCKS):
            return f'clip.{name}'
        number, rest = name.removeprefix(_BLOCKS).split('.', 1)
        first = self.base.architecture.model['vision_cfg']['layers'] - _AFTER  # of the blocks behind the groups
        block = int(number)
        return f'{_FILE}layers0.{block}.{rest}' if block < first else f'{_FILE}layers2.{block - first}.{rest}'

    def may_lack(self, name: str) -> bool:
        """What is not in the image tower's blocks is CLIP's where the file has none."""
        return not name.startswith(_FILE)

    def build_image_tower(self, positions: str) -> SegclipTower:
        """The errors are those of `state`."""
        return SegclipTower(self.clip.visual, positions, self.network)

    def empty_image_tower(self, positions: str = 'scale') -> SegclipTower:
        """On the meta device."""
        visual = self.clip.empty_visual()
        return SegclipTower(visual, positions, self.make_network(visual))
