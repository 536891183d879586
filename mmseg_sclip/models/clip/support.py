"""What CLIP models can be used, and the words in which others are refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...compat import open_clip
from ...errors import ConfigError

_CUSTOM = ('qk_norm', 'scaled_cosine_attn', 'scale_heads', 'scale_attn_inner', 'scale_attn', 'scale_fc')


def open_clip_name(name: str) -> str:
    """open_clip's spelling of an architecture: OpenAI writes ViT-L/14@336px where it writes ViT-L-14-336."""
    return name.replace('/', '-').replace('@', '-').removesuffix('px')


def refuse_unsupported(name: str, model: Mapping[str, Any]) -> None:
    """Refuse by name what cannot be decoded densely in SCLIP's way.

    Args:
        name: As the user wrote it.
        model: open_clip's model config.

    Raises:
        ConfigError: The image tower is not a Vision Transformer that pools at a class token.
    """
    vision = model['vision_cfg']
    pool = vision.get('pool_type', 'tok')
    reasons = {
        f'is a timm trunk ({vision.get("timm_model_name")})': vision.get('timm_model_name'),
        'is a ResNet': isinstance(vision.get('layers'), (list, tuple)),
        'pools by attention (attentional_pool)': vision.get('attentional_pool'),
        f"pools with pool_type='{pool}' instead of the class token ('tok')": pool != 'tok',
        'belongs to a CoCa (multimodal_cfg)': model.get('multimodal_cfg'),
        'has its final LayerNorm after the pooling (final_ln_after_pool)': vision.get('final_ln_after_pool'),
        'has blocks with a custom attention': vision.get('block_type') == 'custom' or any(map(vision.get, _CUSTOM)),
    }
    for reason, holds in reasons.items():
        if holds:
            raise ConfigError(
                f'{name} cannot be used: its image tower {reason}. A Vision Transformer with a class token is needed, '
                'such as ViT-B-16-quickgelu, ViT-B-32-quickgelu, ViT-L-14-quickgelu or ViT-H-14.'
            )


def checked_tower(name: str, visual: Any) -> open_clip.transformer.VisionTransformer:
    """The image tower that open_clip built, which must be of the one kind that is decoded here.

    Raises:
        ConfigError: It is another one.
    """
    if type(visual) is not open_clip.transformer.VisionTransformer:
        raise ConfigError(
            f'{name} cannot be used: its image tower is a {type(visual).__name__}, '
            'not a Vision Transformer of open_clip.'
        )
    return visual


def activation_message(weights: str, wanted: bool, model_name: str) -> str:
    """The error text of an activation that does not fit the weights.

    Args:
        weights: What the message shall call the weights.
        wanted: Whether they need QuickGELU.
        model_name: As the user wrote it.
    """
    names = ('GELU', 'QuickGELU')
    plain = open_clip_name(model_name).removesuffix('-quickgelu')
    better = f'{plain}-quickgelu' if wanted else plain
    hint = (
        f"Use model_name='{better}' (as a flag: --model-name {better})"
        if better in open_clip.list_models()
        else f'Set "quick_gelu": {str(wanted).lower()} in the model JSON'
    )
    return (
        f'{weights} were trained with {names[wanted]}, but {model_name} is built with {names[not wanted]}; the '
        f'results would be silently wrong. {hint}, or override the activation on purpose with '
        f"clip=dict(activation='{'quick_gelu' if wanted else 'gelu'}')."
    )
