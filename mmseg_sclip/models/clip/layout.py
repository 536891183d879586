"""From a description to modules: a model is laid out without memory, and the part that is needed gets its weights."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from ...compat import open_clip
from ...errors import ConfigError
from .architecture import Architecture
from .config import PRECISIONS, ClipConfig
from .hugging_face import with_transformers

_STAY_FLOAT32 = ('positional_embedding', 'class_embedding')  # fitted to the grid in float32, then cast


def lay_out(architecture: Architecture, config: ClipConfig, tower: str, device: str = 'meta') -> Any:
    """The whole model, an `open_clip.CLIP` or `CustomTextCLIP`; on the meta device without memory.

    Args:
        architecture: Its description.
        config: With the precision and the overrides.
        tower: Whose overrides to take, 'image' or 'text'.
        device: Where its parameters lie.

    Raises:
        ConfigError: The description has a key that open_clip does not know, or a package of its text tower is missing.
        MissingFileError: Its text tower is one of Hugging Face, whose description cannot be loaded.
    """
    model = dict(architecture.model)
    custom = model.pop('custom_text', False) or 'hf_model_name' in model['text_cfg']
    if custom:
        model['text_cfg'] = {**model['text_cfg'], 'hf_model_pretrained': False}
    activation, eps = (config.override(key, tower) for key in ('activation', 'norm_eps'))
    if activation is not None:
        model['quick_gelu'] = activation == 'quick_gelu'
    if eps is not None:
        part = 'vision_cfg' if tower == 'image' else 'text_cfg'
        model[part] = {**model[part], 'norm_kwargs': {**(model[part].get('norm_kwargs') or {}), 'eps': eps}}
    kind = open_clip.CustomTextCLIP if custom else open_clip.CLIP
    hugging_face = model['text_cfg'].get('hf_model_name')
    what = f"The text tower '{hugging_face}' of {architecture.name}"
    try:
        with with_transformers(what) if hugging_face else nullcontext(), torch.device(device):
            # With the lower precisions open_clip builds LayerNorms that compute in float32.
            return kind(**model, cast_dtype=PRECISIONS[config.precision])
    except TypeError as error:
        raise ConfigError(
            f'{architecture.name} is not a model description that open_clip {open_clip.__version__} can '
            f'build ({error}). Correct the key, or install a newer open_clip_torch.'
        ) from error


def fill(module: nn.Module, state_dict: Mapping[str, Tensor], precision: torch.dtype) -> nn.Module:
    """Give memory to a module laid out on the meta device, prove that none is left without, and freeze it.

    Norms, embeddings and the text towers of Hugging Face stay in float32.
    """
    copies = {key: value.to(torch.float32, copy=True) for key, value in state_dict.items()}
    module.load_state_dict(copies, strict=True, assign=True)
    for owner in module.modules():
        mask = getattr(owner, 'attn_mask', None)
        if mask is not None:  # it is not persistent, so no checkpoint brings it
            owner.attn_mask = torch.full(mask.shape, float('-inf')).triu_(1)
    values = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    empty = [name for name, value in values.items() if value.is_meta]
    if empty:
        raise RuntimeError(f'These parts of CLIP were left without memory: {", ".join(empty)}. This is a bug.')
    if precision != torch.float32 and not isinstance(getattr(module, 'text', None), open_clip.hf_model.HFTextEncoder):
        for part in module.modules():
            if isinstance(part, (nn.LayerNorm, nn.BatchNorm2d, nn.Embedding)):
                continue
            for name, parameter in part.named_parameters(recurse=False):
                if name not in _STAY_FLOAT32:
                    parameter.data = parameter.data.to(precision)
    return module.eval().requires_grad_(False)
