"""Vision Transformers of timm as companions: DINO, DINOv2, DINOv3, MAE and others."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Annotated, Any

import torch
from mmseg.registry import MODELS
from torch import Tensor, nn
from torch.nn import functional as F

from ...errors import BadFileError, ConfigError, nearest
from ...rules import OneOf
from ..clip.positions import POSITION_RULES, by_scale_but_native
from ..image.patches import embed_patches
from ..pretrained import Pretrained
from ..random_weights import fixed_draw
from .base import Companion, Features
from .timm_files import family_of, read_vit

TIMM = 'timm'
POSITIONS = {**POSITION_RULES, 'scale': by_scale_but_native}


@MODELS.register_module()
class TimmCompanion(Companion):
    """A Vision Transformer of timm, such as DINO, DINOv2 with or without registers, DINOv3 or MAE.

    One run gives the features of a layer and the queries, keys and values of the last attention, so that methods which
    read different ones share the network. Sides of a window that are not a multiple of its patch are cut off at the
    end, as those of CLIP are. Networks with rotary positions have queries and keys before their rotation.

    Args:
        model: timm's name with the tag of its weights, such as 'vit_base_patch8_224.dino',
            'vit_base_patch16_224.dino', 'vit_base_patch14_reg4_dinov2.lvd142m', 'vit_base_patch16_224.mae' or
            'vit_base_patch16_dinov3.lvd1689m'.
        pretrained: 'timm' for the weights of that name; a file, named as by timm or as DINO, DINOv2 and MAE name
            theirs; None for random weights.
        layer: The block, from the end, whose output is `Features.map`; that of the last one, -1, goes through the final
            LayerNorm.
        positions: How a learned table of positions is fitted to other grids: 'scale' is DINO's rule, 'size_antialias'
            that of DINOv2 and of timm, 'size' MAE's; None for the rule of the model's own code.
        model_args: Arguments of timm's model in place of its own, such as dict(depth=3, embed_dim=128, num_heads=2).

    Raises:
        ConfigError: The tag is missing which 'timm' needs.
    """

    def __init__(
        self,
        model: str = 'vit_base_patch8_224.dino',
        pretrained: str | None = TIMM,
        layer: int = -1,
        positions: Annotated[str, OneOf(POSITIONS)] | None = None,
        model_args: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if pretrained == TIMM and '.' not in model:
            raise ConfigError(
                f"model.companions.*.model is '{model}', but pretrained='timm' needs the tag of the weights behind it, "
                "such as 'vit_base_patch8_224.dino'. Name it, or give a file in pretrained."
            )
        self.model = model
        self.chosen = pretrained
        self.layer = layer
        self.family = family_of(model)
        self.fit_positions = POSITIONS[positions or self.family.positions]
        self.model_args = dict(model_args or {})
        self.network: Any = None

    @property
    def pretrained(self) -> Pretrained | None:
        """See `Companion.pretrained`."""
        if self.chosen is None:
            return None
        address, size = self.family.files.get(self.model, ('', None))
        original = [PurePosixPath(address).name] if address else []
        hub = f'huggingface.co/timm/{self.model}'
        return Pretrained(
            what=f'{self.family.title} ({self.model})'.strip(),
            setting='pretrained',
            given=None if self.chosen == TIMM else self.chosen,
            names=[*original, f'{self.model}.safetensors'],
            repository=f'timm/{self.model}',
            hub_names=['model.safetensors', 'pytorch_model.bin'],
            published=f'{address} or {hub}' if address else hub,
            licence=self.family.licence,
            size=size,
        )

    def load(self, weights: bool = True) -> None:
        """See `Companion.load`; names and shapes are checked, and nothing is resized.

        Raises:
            ConfigError: timm is missing, does not know the model, or builds no plain Vision Transformer.
        """
        pretrained = self.pretrained if weights else None
        path = None if pretrained is None else pretrained.fetch()
        network = _make(self.model, self.model_args)
        depth = len(network.blocks)
        if not -depth <= self.layer <= -1:
            raise ConfigError(
                f'model.companions.*.layer is {self.layer}; blocks of {self.model} count from -1, the last, to '
                f'{-depth}.'
            )
        if pretrained is not None and path is not None:
            network.load_state_dict(pretrained.fit(read_vit(path), network.state_dict()))
        for name in ('mean', 'std'):
            setattr(self, name, tuple(round(255 * value, 4) for value in network.pretrained_cfg[name]))
        self.network = network.eval()

    def features(self, images: Tensor) -> Features:
        """See `Companion.features`.

        Raises:
            BadFileError: The images are smaller than a patch.
        """
        blocks = self.network.blocks
        x, grid, rotary = self._embed(images)
        for number, block in enumerate(blocks):
            last = number == len(blocks) - 1
            if last:
                x, projections = _last_block(block, x, *rotary)
            else:
                x = block(x, *rotary)
            if number == len(blocks) + self.layer:
                chosen = self.network.norm(x) if last else x
        maps = [
            tokens[:, self.network.num_prefix_tokens :].transpose(1, 2).unflatten(2, grid)
            for tokens in (chosen, *projections)
        ]
        return Features(*maps)

    def _embed(self, images: Tensor) -> tuple[Tensor, tuple[int, int], list[Tensor]]:
        """Tokens (B, N, C), the grid of the patches, and what blocks take beside tokens: rotary positions."""
        net, proj = self.network, self.network.patch_embed.proj
        if images.shape[-2] < proj.kernel_size[0] or images.shape[-1] < proj.kernel_size[1]:
            raise BadFileError(
                f'A window of {images.shape[-2]} x {images.shape[-1]} pixels holds no patch of {self.model}. Take '
                'larger images, or another companion.'
            )
        x, grid = embed_patches(images, proj.weight, proj.bias)
        x = net.patch_embed.norm(x)
        front = [token for token in (net.cls_token, getattr(net, 'reg_token', None)) if token is not None]
        front = [token.to(x.dtype).expand(len(x), -1, -1) for token in front]
        table = None if net.pos_embed is None else net.pos_embed[0]
        if table is not None:
            count = 0 if net.no_embed_class else net.num_prefix_tokens
            patches = F.pad(table[count:], (0, 0, 1, 0))  # the rules keep the row of a class token
            x = x + self.fit_positions(patches, net.patch_embed.grid_size, grid)[1:].to(x.dtype)
            if count:
                front = [torch.cat(front, dim=1) + table[:count].to(x.dtype)]
        rope = getattr(net, 'rope', None)
        rotary = [] if rope is None else [rope.get_embed(shape=grid)]
        return getattr(net, 'norm_pre', nn.Identity())(torch.cat([*front, x], dim=1)), grid, rotary


def _make(name: str, model_args: Mapping[str, Any]) -> Any:
    """A Vision Transformer of timm with random weights, always the same ones, and no classifier."""
    try:
        import timm  # which imports torchvision
        from timm.layers import PatchEmbed
        from timm.models import eva, vision_transformer
    except ImportError as error:
        raise ConfigError(
            'TimmCompanion needs the package timm, which comes with open_clip. Install it with pip install timm, or '
            'name another companion in model.companions.'
        ) from error
    try:
        with fixed_draw():
            network: Any = timm.create_model(name, pretrained=False, num_classes=0, **model_args)
    except (RuntimeError, TypeError, ValueError, AssertionError) as error:  # an unknown name, tag or argument
        hint = nearest(name, timm.list_models(f'{name.split("_")[0]}*', pretrained=True))
        raise ConfigError(
            f"timm cannot make the companion '{name}' ({str(error) or type(error).__name__}).{hint}"
        ) from error
    if (
        type(network) not in (vision_transformer.VisionTransformer, eva.Eva)
        or type(network.patch_embed) is not PatchEmbed
        or any(type(block) not in (vision_transformer.Block, eva.EvaBlock) for block in network.blocks)
        or getattr(network, 'rope_mixed', False)
    ):
        raise ConfigError(
            f"The companion '{name}' is a {type(network).__name__} of timm, but a plain Vision Transformer is needed, "
            "such as 'vit_base_patch8_224.dino'."
        )
    return network


def _last_block(block: Any, x: Tensor, *rotary: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The output of a block of tokens (B, N, C), and the queries, keys and values (B, N, C) of its attention."""
    attention, normed = block.attn, block.norm1(x)
    projections = _projections(attention, normed)
    plain = hasattr(block, 'ls1') and type(attention).__name__ == 'Attention'
    if not plain or getattr(attention, 'gate', None) is not None:
        return block(x, *rotary), projections
    q, k, v = (part.unflatten(2, (attention.num_heads, -1)).transpose(1, 2) for part in projections)
    attended = F.scaled_dot_product_attention(attention.q_norm(q), attention.k_norm(k), v).transpose(1, 2).flatten(2)
    x = x + block.ls1(attention.proj(getattr(attention, 'norm', nn.Identity())(attended)))
    return x + block.ls2(block.mlp(block.norm2(x))), projections


def _projections(attention: Any, normed: Tensor) -> tuple[Tensor, ...]:
    """Queries, keys and values (B, N, C) of timm's attentions, biases included."""
    if getattr(attention, 'q_proj', None) is not None:
        return tuple(part(normed) for part in (attention.q_proj, attention.k_proj, attention.v_proj))
    bias = attention.qkv.bias
    if getattr(attention, 'q_bias', None) is not None:
        bias = torch.cat([attention.q_bias, attention.k_bias, attention.v_bias])
    return F.linear(normed, attention.qkv.weight, bias).chunk(3, dim=-1)
