"""ReCo's image encoder: a distilled DeiT, as a companion of CLIP."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from mmseg.registry import MODELS
from torch import Tensor

from ....rules import AtLeast
from ...clip.positions import POSITION_RULES
from ...companions.base import Companion, Features
from ...pretrained import Pretrained
from ...random_weights import fixed_draw
from ...towers.released import RELEASED

_PATCH, _NATIVE = 16, 14  # pixels; patches of a side of the images that it was trained with


@MODELS.register_module()
class DistilledDeiT(Companion):
    """DeiT-S/16 with a distillation token, trained on images of shapes (SIN); its map is that after the last norm.

    Positions are interpolated bicubically to the grid. The official code takes the table as it is for any grid of 196
    patches; here only 14 x 14 does.

    Args:
        pretrained: 'released' for the file where `Pretrained` looks for it, the path of a copy, or None for random
            weights.
        width: Channels of a token.
        depth: Number of blocks.
        heads: Attention heads.
    """

    def __init__(
        self,
        pretrained: str | None = RELEASED,
        width: Annotated[int, AtLeast(1)] = 384,
        depth: Annotated[int, AtLeast(1)] = 12,
        heads: Annotated[int, AtLeast(1)] = 6,
    ) -> None:
        super().__init__()
        self.chosen = pretrained
        self.shape = dict(embed_dim=width, depth=depth, num_heads=heads)

    @property
    def pretrained(self) -> Pretrained | None:
        """See `Companion`."""
        if self.chosen is None:
            return None
        return Pretrained(
            what='DeiT-S/16-SIN, distilled',
            setting='pretrained',
            given=None if self.chosen == RELEASED else self.chosen,
            names=('deit_s_sin_dist.pth',),
            published='the release of "Intriguing Properties of Vision Transformers" (NeurIPS 2021)',
        )

    def load(self, weights: bool = True) -> None:
        """See `Companion.load`."""
        from timm.models.deit import VisionTransformerDistilled

        side = _PATCH * _NATIVE
        with fixed_draw():
            self.network = VisionTransformerDistilled(img_size=side, patch_size=_PATCH, num_classes=0, **self.shape)
        if weights and self.pretrained is not None:
            state = self.pretrained.read('model')
            state = {name: value for name, value in state.items() if not name.startswith(('head.', 'head_dist.'))}
            self.network.load_state_dict(self.pretrained.fit(state, self.network.state_dict()))

    def features(self, images: Tensor) -> Features:
        """See `Companion.features`."""
        network: Any = self.network
        x = network.patch_embed.proj(images)  # (B, width, h, w); it floors
        grid = (x.shape[-2], x.shape[-1])
        first = [token.expand(len(x), -1, -1).to(x.dtype) for token in (network.cls_token, network.dist_token)]
        class_row, table = network.pos_embed[0, :1], network.pos_embed[0, 1:]  # the table keeps its first row as it is
        positions = torch.cat([class_row, POSITION_RULES['size'](table, (_NATIVE, _NATIVE), grid)])
        x = torch.cat([*first, x.flatten(2).transpose(1, 2)], dim=1) + positions
        x = network.norm(network.blocks(x))[:, 2:]
        return Features(x.transpose(1, 2).unflatten(2, grid))
