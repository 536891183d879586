"""Files of Vision Transformers for timm's layout: what is known of the published ones, and their names inside."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from ...errors import BadFileError
from ..clip.weights import read_tensors, refuse_not_finite

_OUTER = ('teacher', 'model', 'state_dict')  # under which training checkpoints keep the network, the best first
_PREFIX = re.compile(r'^(module\.)?(backbone\.)?')
_FAST = 'https://dl.fbaipublicfiles.com'


@dataclass(frozen=True, kw_only=True)
class Family:
    """What is known of a family of published Vision Transformers.

    Attributes:
        title: Its name.
        licence: Of its weights.
        positions: How its official code fits positions to other grids, one of the `POSITIONS` of `TimmCompanion`.
        files: Of timm's names: address and size in MB of the original file.
    """

    title: str = ''
    licence: str = ''
    positions: str = 'size_antialias'  # as timm itself
    files: Mapping[str, tuple[str, int]]


_FAMILIES = {
    r'\.dino$': Family(
        title='DINO',
        licence='Apache-2.0',
        positions='scale',
        files={
            'vit_base_patch8_224.dino': (f'{_FAST}/dino/dino_vitbase8_pretrain/dino_vitbase8_pretrain.pth', 343),
            'vit_base_patch16_224.dino': (f'{_FAST}/dino/dino_vitbase16_pretrain/dino_vitbase16_pretrain.pth', 343),
        },
    ),
    r'_dinov2\.lvd142m$': Family(
        title='DINOv2',
        licence='Apache-2.0',
        files={
            'vit_base_patch14_reg4_dinov2.lvd142m': (
                f'{_FAST}/dinov2/dinov2_vitb14/dinov2_vitb14_reg4_pretrain.pth',
                346,
            ),
            'vit_base_patch14_dinov2.lvd142m': (f'{_FAST}/dinov2/dinov2_vitb14/dinov2_vitb14_pretrain.pth', 346),
        },
    ),
    r'_dinov3\.': Family(title='DINOv3', licence='DINOv3 License', files={}),
    r'\.mae$': Family(
        title='MAE',
        licence='CC-BY-NC-4.0',
        positions='size',
        files={'vit_base_patch16_224.mae': (f'{_FAST}/mae/pretrain/mae_pretrain_vit_base.pth', 343)},
    ),
}


def family_of(model: str) -> Family:
    """What is known of a network by timm's name of it; of others nothing."""
    known = (family for pattern, family in _FAMILIES.items() if re.search(pattern, model))
    return next(known, Family(files={}))


def read_vit(path: Path) -> dict[str, Tensor]:
    """The state dict of a Vision Transformer by timm's names, on the CPU; no code in the file is run.

    Files of timm, and original files of DINO, DINOv2 and MAE, also whole checkpoints of their training, of which DINO's
    teacher is taken. What is needed in training only is left out: heads, mask tokens, MAE's decoder.

    Raises:
        BadFileError: The file is damaged, or holds something else.
    """
    content = read_tensors(path)
    for key in _OUTER:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not any(isinstance(value, Tensor) for value in content.values()):
        raise BadFileError(f'{path} holds no state dict of tensors, where that of a Vision Transformer was expected.')
    state = {_PREFIX.sub('', str(name)): value for name, value in content.items() if isinstance(value, Tensor)}
    state = {name: value for name, value in state.items() if not _in_training_only(name)}
    refuse_not_finite(path, state)
    return _timms_names(state)


def _in_training_only(name: str) -> bool:
    return name.startswith(('head.', 'dino_head.', 'ibot_head.', 'decoder_', 'mask_token'))


def _timms_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """In timm the registers of DINOv2 have no positions, nor its class token, to which its own has been added."""
    if {'register_tokens', 'cls_token', 'pos_embed'} <= state.keys() and state['pos_embed'].ndim == 3:
        state['reg_token'] = state.pop('register_tokens')
        table = state['pos_embed']
        if state['cls_token'].shape[-1] == table.shape[-1]:
            state |= dict(cls_token=state['cls_token'] + table[:, :1], pos_embed=table[:, 1:])
    gated = {r'\.mlp\.w12\.': '.mlp.fc1.', r'\.mlp\.w3\.': '.mlp.fc2.'}  # of DINOv2's largest network
    for old, new in gated.items():
        state = {re.sub(old, new, name): value for name, value in state.items()}
    return state
