"""GroupViT's image encoder, which OVSegmentor has too: that of transformers, and the official names of its weights."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import ConfigError
from ..image.patches import embed_patches
from ..record import Record
from ..tokens import GroupTokens
from .groups import GroupTower

# Official names of the image side, and transformers'.
_NAMES = (
    (r'^img_encoder\.pos_embed$', 'vision_model.embeddings.position_embeddings'),
    (r'^img_encoder\.patch_embed\.proj\.', 'vision_model.embeddings.patch_embeddings.projection.'),
    (r'^img_encoder\.patch_embed\.norm\.', 'vision_model.embeddings.layernorm.'),
    (r'^img_encoder\.norm\.', 'vision_model.layernorm.'),
    (r'^img_encoder\.layers\.', 'vision_model.encoder.stages.'),
    (r'\.blocks\.(\d+)\.norm', r'.layers.\1.layer_norm'),
    (r'\.blocks\.(\d+)\.attn\.qkv\.', r'.layers.\1.self_attn.qkv.'),
    (r'\.blocks\.(\d+)\.attn\.proj\.', r'.layers.\1.self_attn.out_proj.'),
    (r'\.blocks\.', '.layers.'),
    (r'\.pre_assign_attn\.attn\.proj\.', '.pre_assign_attn.attn.out_proj.'),
    (r'^img_projector\.', 'visual_projection.'),
    (r'^text_projector\.', 'text_projection.'),
    (r'_projection\.linear_hidden\.', '_projection.'),
    (r'_projection\.linear_out\.', '_projection.3.'),
)


def renamed(name: str, rules: Sequence[tuple[str, str]]) -> str:
    """A name after rules of (pattern, replacement), one after the other."""
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name


def rename_groups(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The image encoder and the two projectors of an official state dict under transformers' names."""
    result: dict[str, Tensor] = {}
    for name, value in state.items():
        if not name.startswith(('img_encoder.', 'img_projector.', 'text_projector.')):
            continue
        new = renamed(name, _NAMES)
        if new.endswith('position_embeddings') and value.ndim == 2:  # OVSegmentor's table
            value = value[None]
        if '_projection.' in new and value.ndim == 3:  # a convolution over one position
            value = value.squeeze(-1)
        result.update(split_qkv(new, value, 'qkv.') if '.qkv.' in new else {new: value})
    return result


def split_qkv(name: str, value: Tensor, joint: str) -> dict[str, Tensor]:
    """The three projections of a joint one, whose name holds `joint` where theirs have `q_proj.` and so on."""
    return {name.replace(joint, f'{x}_proj.'): part for x, part in zip('qkv', value.chunk(3), strict=True)}


def build_vision(
    width: int,
    heads: int,
    depths: Sequence[int],
    group_tokens: Sequence[int],
    output_groups: Sequence[int],
    patch_norm: bool,
) -> nn.Module:
    """The image side of transformers' GroupViT, for images of 224 pixels and patches of 16.

    Args:
        width: Channels of a token.
        heads: Of the attentions; those of assignments have one.
        depths: Blocks of each stage.
        group_tokens: Group tokens of each stage, 0 for a stage that does not group.
        output_groups: Groups that leave each stage that groups.
        patch_norm: Whether a LayerNorm follows the patches.

    Raises:
        ConfigError: The numbers do not fit each other.
    """
    from transformers import GroupViTVisionConfig
    from transformers.models.groupvit.modeling_groupvit import GroupViTVisionModel

    stages = [number > 0 for number in group_tokens]
    if len(depths) != len(stages) or sum(stages) != len(output_groups) or not stages[0] or False in stages[:-1]:
        raise ConfigError(
            f'model.clip has depths={tuple(depths)}, group_tokens={tuple(group_tokens)} and '
            f'output_groups={tuple(output_groups)}. Each stage has one of the first two, all stages but perhaps the '
            'last have group tokens, and each of those has a number of output groups.'
        )
    for stage, (before, after) in enumerate(pairwise(group_tokens)):
        if after and output_groups[stage] != before:
            raise ConfigError(
                f'model.clip.output_groups[{stage}] is {output_groups[stage]}, but stage {stage + 2} makes its group '
                f'tokens of the {before} of stage {stage + 1}: both numbers must be equal.'
            )
    if width % heads:
        raise ConfigError(f'model.clip.width is {width}, which is no multiple of its {heads} heads.')
    config = GroupViTVisionConfig(
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=sum(depths),
        depths=list(depths),
        num_group_tokens=list(group_tokens),
        num_output_groups=[*output_groups, *[0] * (len(depths) - len(output_groups))],
        num_attention_heads=heads,
        image_size=224,
        patch_size=16,
    )
    vision: Any = GroupViTVisionModel(config).vision_model
    if not patch_norm:
        vision.embeddings.layernorm = nn.Identity()
    return vision


def build_projection(width: int, hidden: int, out_dim: int) -> nn.Sequential:
    """The projector of vectors (vectors, width) to the joint space, whose BatchNorm has fixed statistics."""
    return nn.Sequential(nn.Linear(width, hidden), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, out_dim))


class GroupViTTower(GroupTower):
    """GroupViT's image encoder and projector (CVPR 2022).

    Assignments are hard inside the network; the maps of groups are products of the soft ones.

    Args:
        network: With `vision_model` of `build_vision` and `visual_projection` of `build_projection`.
    """

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network
        config = network.vision_model.config
        self.width = config.hidden_size
        self.patch_size = (config.patch_size, config.patch_size)
        self.out_dim = network.visual_projection[-1].out_features

    def embed(self, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """See `ImageTower.embed`; there is no class token."""
        self.check_size(images)
        embeddings = self.network.vision_model.embeddings
        convolution = embeddings.patch_embeddings.projection
        x, grid = embed_patches(images, convolution.weight, convolution.bias)
        x = embeddings.layernorm(x)
        return x + embeddings.interpolate_pos_encoding(x, *images.shape[-2:]), grid

    def forward(self, record: Record) -> GroupTokens:
        """See `GroupTower.forward`: the image's vector is the projected mean of the groups."""
        vision, project = self.network.vision_model, self.network.visual_projection
        found = vision.encoder(record[0], output_attentions=True, return_dict=True)
        x = vision.layernorm(found.last_hidden_state)  # (B, G, width)
        vectors = project(torch.cat([x, x.mean(dim=1, keepdim=True)], dim=1).flatten(0, 1)).unflatten(0, (len(x), -1))
        maps = found.attentions[0]  # (B, groups, n), soft
        for later in found.attentions[1:]:
            maps = later.to(maps.dtype) @ maps
        return GroupTokens.of(vectors[:, :-1], vectors[:, -1], maps.unflatten(2, record.grid))
