"""What the sources of GroupViT and OVSegmentor have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ..clip.hugging_face import with_transformers
from .grouping import GroupViTTower, build_projection, build_vision, rename_groups
from .networks import NetworkSource

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)  # ImageNet's


class GroupingSource(NetworkSource):
    """The base of sources of a `GroupViTTower`.

    Args:
        pretrained: See `NetworkSource`.
        image: Arguments of `build_vision`.
        text: Arguments of `build_text`, with `hidden` and `out_dim` of the projectors.
        **more: See `NetworkSource`.

    Attributes:
        build_text: From its arguments to the text network, with `text_model` and `text_projection`.
        rename_text: The text encoder of an official state dict under the names of this network.
    """

    build_text: Callable[..., nn.Module]
    rename_text: Callable[[Mapping[str, Tensor]], dict[str, Tensor]]

    def __init__(self, pretrained: str | None, image: dict[str, Any], text: dict[str, Any], **more: Any) -> None:
        super().__init__(pretrained, mean=MEAN, std=STD, **more)
        self.image, self.text = image, text

    def lay_out(self, part: str) -> nn.Module:
        """See `NetworkSource.lay_out`.

        Raises:
            ConfigError: The package transformers is missing, or the sizes do not fit each other.
        """
        with with_transformers(f'The network of {self.name}'):
            if part == 'text':
                return self.build_text(**self.text)
            network = nn.Module()
            network.vision_model = build_vision(**self.image)
            network.visual_projection = build_projection(self.image['width'], self.text['hidden'], self.text['out_dim'])
            return network

    def rename(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See `NetworkSource.rename`; official names to those of transformers."""
        scale = {name: value for name, value in state.items() if name == 'logit_scale'}
        return rename_groups(state) | self.rename_text(state) | scale

    def settings(self) -> dict[str, Any]:
        """See `NetworkSource.settings`."""
        return dict(text=self.text)

    def build_image_tower(self, positions: str) -> GroupViTTower:
        """See `TowerSource.build_image_tower`; errors as in `check_positions` and `network`."""
        self.check_positions(positions)
        return GroupViTTower(self.network('image'))

    def empty_image_tower(self, positions: str = 'size') -> GroupViTTower:
        """See `TowerSource.empty_image_tower`; errors as in `check_positions`."""
        self.check_positions(positions)
        return GroupViTTower(self.empty('image'))


def in_folder(path: str | None, names: Sequence[str]) -> str | None:
    """A file that a setting names; where it names a folder, the first of `names` that is in it."""
    if path is None or not Path(path).expanduser().is_dir():
        return path
    files = [Path(path).expanduser() / name for name in names]
    return str(next((file for file in files if file.is_file()), files[0]))
