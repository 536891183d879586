"""The weights of SAM's image encoder: in SAM's own file, or in that of the Hugging Face hub."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..pretrained import Pretrained

RELEASED = 'released'
_PREFIXES = ('image_encoder.', 'vision_encoder.')  # of SAM's own file, and of the hub's
_OTHERS = ('prompt_encoder.', 'mask_decoder.', 'shared_image_embedding.')  # what stands beside it
# From SAM's names to those of transformers.
_NAMES = (
    (r'^patch_embed\.proj\.', 'patch_embed.projection.'),
    (r'^blocks\.', 'layers.'),
    (r'^(layers\.\d+)\.norm', r'\1.layer_norm'),
    (r'^neck\.0\.', 'neck.conv1.'),
    (r'^neck\.1\.', 'neck.layer_norm1.'),
    (r'^neck\.2\.', 'neck.conv2.'),
    (r'^neck\.3\.', 'neck.layer_norm2.'),
)


@dataclass(frozen=True)
class Encoder:
    """A published size.

    Attributes:
        name: For messages and tables.
        file: What SAM calls its file.
        repository: Of the hub.
        size: Of SAM's file in MB, about.
        config: Numbers of transformers' `SamVisionConfig`.
    """

    name: str
    file: str
    repository: str
    size: int
    config: Mapping[str, Any]

    def released(self, chosen: str) -> Pretrained:
        """Its file, or the copy of it that `chosen` names."""
        return Pretrained(
            what=self.name,
            setting='pretrained',
            given=None if chosen == RELEASED else chosen,
            names=(self.file,),
            repository=self.repository,
            hub_names=('model.safetensors',),
            published=f'https://dl.fbaipublicfiles.com/segment_anything/{self.file}',
            licence='Apache-2.0',
            size=self.size,
        )


def _config(width: int, depth: int, heads: int, global_blocks: Sequence[int]) -> dict[str, Any]:
    return dict(
        hidden_size=width,
        num_hidden_layers=depth,
        num_attention_heads=heads,
        global_attn_indexes=list(global_blocks),
    )


ENCODERS = {
    'vit_b': Encoder(
        'SAM ViT-B', 'sam_vit_b_01ec64.pth', 'facebook/sam-vit-base', 375, _config(768, 12, 12, (2, 5, 8, 11))
    ),
    'vit_l': Encoder(
        'SAM ViT-L', 'sam_vit_l_0b3195.pth', 'facebook/sam-vit-large', 1250, _config(1024, 24, 16, (5, 11, 17, 23))
    ),
    'vit_h': Encoder(
        'SAM ViT-H', 'sam_vit_h_4b8939.pth', 'facebook/sam-vit-huge', 2564, _config(1280, 32, 16, (7, 15, 23, 31))
    ),
}


def read_encoder(pretrained: Pretrained, expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The entries of the image encoder in a file of SAM, by the names of transformers, on the CPU.

    Those of the prompt encoder and of the mask decoder are left out; no code in the file is run.

    Args:
        pretrained: The file.
        expected: The state dict of the network, on any device.

    Raises:
        MissingFileError: There is no such file.
        BadFileError: It is damaged, holds something else, or an entry is missing, left over or of another shape.
    """
    state = {_renamed(key): value for key, value in pretrained.read().items() if not key.startswith(_OTHERS)}
    return {key: value.float() for key, value in pretrained.fit(state, expected).items()}


def _renamed(key: str) -> str:
    """The name in transformers' image encoder; a name without its prefix stays, and is unknown to the network."""
    prefix = next((prefix for prefix in _PREFIXES if key.startswith(prefix)), None)
    if prefix is None:
        return f'{key} (no entry of the image encoder)'
    key = key.removeprefix(prefix)
    for pattern, name in _NAMES if prefix == _PREFIXES[0] else ():
        key = re.sub(pattern, name, key)
    return key
