"""Where GroupViT's two towers come from (CVPR 2022)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

from mmseg.registry import MODELS
from torch import Tensor

from ....rules import AtLeast
from ...pretrained import Pretrained
from ...towers.grouping_source import GroupingSource, in_folder
from ...towers.released import RELEASED
from .text import GroupViTText, build_text, rename_text

_HUB_NAMES = ('model.safetensors', 'pytorch_model.bin')
_Count = Annotated[int, AtLeast(1)]


@MODELS.register_module()
class GroupViTSource(GroupingSource):
    """GroupViT (CVPR 2022), trained on GCC and YFCC: its image encoder, text encoder and projectors.

    It reads the official `.pth` and transformers' own files, such as `model.safetensors` of nvidia/groupvit-gcc-yfcc.
    The sizes are those of the released weights; other ones are for small networks of one's own.

    Args:
        pretrained: 'released' for the published file, in `weights_root()` or in the cache of the Hugging Face hub; the
            path of a file, or of a folder with one of transformers' names; or None for random weights.
        keep_text: See `NetworkSource`.
        cache_dir: See `NetworkSource`.
        width: Channels of an image token.
        heads: Attention heads of the image encoder.
        depths: Blocks of each stage.
        group_tokens: Group tokens of each stage, 0 for the last one, which does not group.
        output_groups: Groups that leave each stage that groups.
        text_width: Channels of a text token.
        text_heads: Attention heads of the text encoder.
        text_layers: Its blocks.
        hidden: Channels inside the projectors.
        out_dim: Channels of the joint space.
    """

    build_text = staticmethod(build_text)
    rename_text = staticmethod(rename_text)
    release = Pretrained(
        what='GroupViT',
        setting='model.clip.pretrained',
        names=('group_vit_gcc_yfcc_30e-879422e0.pth',),
        repository='nvidia/groupvit-gcc-yfcc',
        hub_names=_HUB_NAMES,
        published='github.com/NVlabs/GroupViT and huggingface.co/nvidia/groupvit-gcc-yfcc',
        licence='NVIDIA Source Code License, non-commercial',
        size=224,
    )

    def __init__(
        self,
        pretrained: str | None = RELEASED,
        keep_text: bool = False,
        cache_dir: str | None = None,
        width: _Count = 384,
        heads: _Count = 6,
        depths: Sequence[_Count] = (6, 3, 3),
        group_tokens: Sequence[Annotated[int, AtLeast(0)]] = (64, 8, 0),
        output_groups: Sequence[_Count] = (64, 8),
        text_width: _Count = 256,
        text_heads: _Count = 4,
        text_layers: _Count = 12,
        hidden: _Count = 4096,
        out_dim: _Count = 256,
    ) -> None:
        image = dict(
            width=width,
            heads=heads,
            depths=depths,
            group_tokens=group_tokens,
            output_groups=output_groups,
            patch_norm=True,
        )
        text = dict(width=text_width, heads=text_heads, layers=text_layers, hidden=hidden, out_dim=out_dim)
        file = pretrained if pretrained == RELEASED else in_folder(pretrained, _HUB_NAMES)
        super().__init__(file, image, text, keep_text=keep_text, cache_dir=cache_dir)

    def rename(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See `NetworkSource.rename`."""
        ours = any(name.startswith('vision_model.') for name in state)  # transformers' own names
        return dict(state) if ours else super().rename(state)

    def build_text_encoder(self) -> GroupViTText:
        """See `TowerSource.build_text_encoder`."""
        return GroupViTText(self)
