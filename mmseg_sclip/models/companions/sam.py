"""The image encoder of SAM as a companion, through Hugging Face's transformers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import numpy as np
import torch
from mmseg.registry import MODELS
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from ...checks import check_keys
from ...errors import ConfigError
from ...rules import OneOf
from ..clip.hugging_face import import_transformers
from ..image.patches import embed_patches
from ..pretrained import Pretrained
from ..random_weights import fixed_draw
from .base import Companion, Features, Relations
from .sam_weights import ENCODERS, RELEASED, read_encoder


@MODELS.register_module()
class SamCompanion(Companion):
    """The image encoder of SAM (Kirillov et al., Segment Anything, ICCV 2023).

    Its features are the output of the neck, of windows stretched to 1024 x 1024 pixels, on 64 x 64 cells. Images go
    through the network one by one, and through the attention of its global blocks head by head: 4096 tokens keep a
    device busy, and a map of one head has 67 MB.

    Args:
        model: The size: 'vit_b', 'vit_l' or 'vit_h'.
        pretrained: 'released' for the published weights, the path of a copy (SAM's own file, or that of the Hugging
            Face hub), or None for random ones.
        changes: Numbers of transformers' `SamVisionConfig` that differ from those of `model`, such as `hidden_size`;
            for small networks of one's own.
    """

    def __init__(
        self,
        model: Annotated[str, OneOf(ENCODERS)] = 'vit_b',
        pretrained: str | None = RELEASED,
        changes: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.chosen = pretrained
        self.changes = dict(changes or {})

    @property
    def pretrained(self) -> Pretrained | None:
        """See `Companion`."""
        return None if self.chosen is None else ENCODERS[self.model].released(self.chosen)

    @property
    def side(self) -> int:
        """Pixels of a side of the square that the network sees."""
        return self.network.config.image_size

    @property
    def cells(self) -> int:
        """Cells on a side of its grid."""
        return self.network.config.image_size // self.network.config.patch_size

    def load(self, weights: bool = True) -> None:
        """See `Companion.load`.

        Raises:
            ConfigError: transformers is not installed, or `changes` do not fit.
        """
        transformers = import_transformers('SamCompanion', 'SamVisionModel')
        where = "model.companions: SamCompanion's changes"
        check_keys(where, self.changes, transformers.SamVisionConfig().to_dict())
        random = weights and self.chosen is None
        try:
            config = transformers.SamVisionConfig(
                **{**ENCODERS[self.model].config, 'initializer_range': 0.02, **self.changes}
            )
            with fixed_draw(), torch.device('cpu' if random else 'meta'):
                network = transformers.SamVisionModel(config).vision_encoder
        except Exception as error:  # transformers and torch raise many kinds
            raise ConfigError(f'{where} are {self.changes}, of which no network can be made: {error}') from error
        if weights and self.pretrained is not None:
            network.load_state_dict(read_encoder(self.pretrained, network.state_dict()), assign=True)
        self.network = network.eval()

    def features(self, images: Tensor) -> Features:
        """See `Companion.features`; `map` is (B, 256, 64, 64)."""
        size = (self.side, self.side)
        stretched = (F.interpolate(image[None], size, mode='bilinear', align_corners=False) for image in images)
        return Features(torch.cat([self.network.neck(self._stream(image)) for image in stretched]))

    def relations(self, image: Tensor) -> Relations:
        """What the last block attends to in a whole image, and its values, head by head.

        As SAM does it, the long side is resized to 1024 pixels with Pillow's bilinear filter, and zeros are padded at
        the right and at the bottom after normalisation. Rows of the maps need not sum to 1: what falls onto the padding
        is left out, as is the last cell of a side where it is not full.

        Args:
            image: (3, H, W), uint8, RGB.

        Raises:
            ConfigError: The last block of a network of one's own attends in windows.
        """
        block = self.network.layers[-1]
        if block.window_size:
            raise ConfigError(
                f'The last block of SamCompanion attends in windows of {block.window_size} cells. Name it in the '
                f"changes' global_attn_indexes: {len(self.network.layers) - 1}."
            )
        pixels, grid = self._whole(image)
        heads = _Heads(block.attn, block.layer_norm1(self._stream(pixels, len(self.network.layers) - 1)))
        return Relations(grid, heads.values_of(grid), heads.attention(grid))

    def _whole(self, image: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """The network's input (1, 3, side, side) of an image (3, H, W), and the cells (h, w) that it covers."""
        height, width = image.shape[-2:]
        scale = self.side / max(height, width)
        size = (int(height * scale + 0.5), int(width * scale + 0.5))
        picture = Image.fromarray(np.ascontiguousarray(image.permute(1, 2, 0).cpu().numpy()))
        resized = torch.from_numpy(np.array(picture.resize(size[::-1], Image.Resampling.BILINEAR)))
        pixels = resized.permute(2, 0, 1).to(next(self.parameters()).device, torch.float32)
        mean, std = (pixels.new_tensor(values).view(3, 1, 1) for values in (self.mean, self.std))
        padded = F.pad((pixels - mean) / std, (0, self.side - size[1], 0, self.side - size[0]))
        patch = self.network.config.patch_size
        return padded[None], (max(size[0] // patch, 1), max(size[1] // patch, 1))

    def _stream(self, image: Tensor, blocks: int | None = None) -> Tensor:
        """(1, h, w, width): what the first blocks, or all, make of an image (1, 3, side, side)."""
        proj = self.network.patch_embed.projection
        x, grid = embed_patches(image, proj.weight, proj.bias)
        x = x.unflatten(1, grid)
        if self.network.pos_embed is not None:
            x = x + self.network.pos_embed
        for block in self.network.layers[:blocks]:
            x = block(x) if block.window_size else self._global_block(block, x)
        return x

    def _global_block(self, block: Any, x: Tensor) -> Tensor:
        """A block that attends to all tokens; transformers' own one would hold the map of all heads."""
        heads, grid = _Heads(block.attn, block.layer_norm1(x)), (x.shape[1], x.shape[2])
        attended = [each @ values for each, values in zip(heads.attention(grid), heads.values_of(grid), strict=True)]
        x = x + block.attn.proj(torch.cat(attended, dim=-1)).view(x.shape)
        return x + block.mlp(block.layer_norm2(x))


class _Heads:
    """What the heads of a global block see.

    Args:
        attention: Of the block.
        x: (1, H, W, width), its input.
    """

    def __init__(self, attention: Any, x: Tensor) -> None:
        self.module = attention
        projected = attention.qkv(x)[0].unflatten(-1, (3, attention.num_attention_heads, -1))  # (H, W, 3, heads, d)
        self.queries, self.keys, self.values = projected.permute(2, 3, 0, 1, 4)  # (heads, H, W, d)

    def values_of(self, grid: tuple[int, int]) -> Tensor:
        """(heads, h * w, d) of the upper left (h, w) of the cells."""
        return self.values[:, : grid[0], : grid[1]].flatten(1, 2)

    def attention(self, grid: tuple[int, int]) -> Iterator[Tensor]:
        """(h * w, h * w) of each head, among the upper left (h, w) of the cells; the softmax is over all cells."""
        module, (h, w), (height, width) = self.module, grid, self.keys.shape[1:3]
        tables = None
        if module.use_rel_pos:
            sides = (height, module.rel_pos_h), (width, module.rel_pos_w)
            tables = [module.get_rel_pos(side, side, table) for side, table in sides]
        for queries, keys in zip(self.queries[:, :h, :w], self.keys, strict=True):
            logits = (queries.flatten(0, 1) * module.scale) @ keys.flatten(0, 1).T
            places = logits.view(h, w, height, width)
            if tables is not None:
                places += torch.einsum('hwc,hkc->hwk', queries, tables[0][:h])[..., None]
                places += torch.einsum('hwc,wkc->hwk', queries, tables[1][:w])[..., None, :]
            weights = logits.softmax(dim=-1).view(h * w, height, width)
            yield weights[:, :h, :w].reshape(h * w, h * w)
