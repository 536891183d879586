"""Loading a config for a tool, and the flags that several tools share."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping
from pathlib import Path

import torch
from mmengine.config import Config, DictAction
from mmseg.registry import MODELS

from ..models.clip.config import SCHEMAS
from ..models.text import find_vocabulary
from ..paths import config_path
from ..utils.checks import check_keys, nearest
from .errors import UsageError


def load_config(name: str, options: Mapping | None = None) -> Config:
    """Read a config by its path, or by the name of a shipped one, and make it ready to be built.

    A user's module beside the config or in the current folder can be named in `custom_imports`, and a
    relative vocabulary is looked for beside the config first.

    Args:
        name: A path, or a name such as `sclip_voc21`.
        options: From `--cfg-options`.

    Raises:
        FileNotFoundError: There is no such config.
        ValueError: An option does not fit the config, or the config has no SCLIP model.
    """
    path = Path(name).expanduser()
    if not path.is_file():
        if path.suffix == '.py' and (path.is_absolute() or len(path.parts) > 2):
            raise FileNotFoundError(
                f'There is no config {path.absolute()}. `mmseg-sclip configs` lists the shipped ones.'
            )
        path = config_path(name.removeprefix('configs/'))
    for folder in (path.resolve().parent, Path.cwd()):
        if str(folder) not in sys.path:
            sys.path.insert(0, str(folder))
    config = _read(path)
    if options:
        _check_options(config, options)
        config.merge_from_dict(dict(options))
    if 'model' not in config or 'test_dataloader' not in config:
        raise ValueError(
            f'{path} has no {"model" if "model" not in config else "test_dataloader"}. Start from a shipped '
            'config: _base_ = [...], or copy one that `mmseg-sclip configs` lists.'
        )
    for key in ('clip', 'backbone', 'decode_head', 'test_cfg'):
        if not isinstance(config.model.get(key, {}), Mapping):
            raise ValueError(f'model.{key} is {config.model[key]!r}; it must be a dict.')
    for where in ('model', 'model.backbone', 'model.decode_head'):
        _check_part(config, where)
    head = config.model.get('decode_head')
    if head is not None and isinstance(head.get('vocabulary'), str):
        head.vocabulary = str(find_vocabulary(head.vocabulary, [path.resolve().parent]))
    return config


def find_device(name: str | None) -> torch.device | None:
    """The device that `--device` names, tried out; None for MMEngine's choice.

    Raises:
        UsageError: This machine has no such device.
    """
    if name is None:
        return None
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except Exception as error:  # torch raises RuntimeError, AssertionError and more
        there = ['cpu', *(f'cuda:{i}' for i in range(torch.cuda.device_count()))]
        raise UsageError(
            f'--device {name} cannot be used ({str(error).splitlines()[0]}). This machine has: {", ".join(there)}.'
        ) from error
    return device


def _read(path: Path) -> Config:
    try:
        return Config.fromfile(path)
    except Exception as error:  # a config is a program: it may raise anything
        if str(error).startswith('Failed to import custom modules'):
            raise
        raise ValueError(
            f'The config {path} cannot be read ({str(error) or type(error).__name__}). Correct it.'
        ) from error


def _check_part(config: Config, where: str) -> None:
    """Refuse a misspelt type or key; Python's own message would not say which words are allowed."""
    part = config.model if where == 'model' else config.model.get(where.partition('.')[2])
    if not isinstance(part, Mapping) or not isinstance(part.get('type'), str):
        return
    cls = MODELS.get(part['type'])
    if cls is None:
        hint = nearest(part['type'], MODELS.module_dict)
        raise ValueError(
            f"{where} has the type '{part['type']}', which is not registered.{hint} A class of your own must be "
            "imported first: custom_imports=dict(imports=['mmseg_sclip', 'your_module'])."
        )
    parameters = inspect.signature(cls).parameters
    if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        check_keys(f'{where} ({cls.__name__})', [key for key in part if key != 'type' and key[0] != '_'], parameters)


class CfgOptions(DictAction):
    """MMEngine's KEY=VALUE pairs, with a message for words that are none."""

    def __call__(self, parser, namespace, values, option_string=None) -> None:
        """Parse all pairs of one `--cfg-options`."""
        for pair in values:
            if '=' not in pair:
                parser.error(
                    f'{option_string} takes KEY=VALUE pairs, and {pair!r} is none; values cannot contain spaces'
                )
        super().__call__(parser, namespace, values, option_string)


def apply_clip_flags(config: Config, model_name: str | None, pretrained: str | None) -> None:
    """Put `--model-name` and `--pretrained` into the model config.

    Raises:
        ValueError: The config's model has no `clip`.
    """
    if model_name is None and pretrained is None:
        return
    if 'clip' not in config.model:
        raise ValueError("--model-name and --pretrained change model.clip, which this config's model does not have.")
    if model_name is not None:
        config.model.clip.model_name = model_name
        if model_name.startswith(SCHEMAS) and pretrained is None:
            config.model.clip.pretrained = None  # the schema brings its own weights
    if pretrained is not None:
        config.model.clip.pretrained = pretrained


def _check_options(config: Config, options: Mapping) -> None:
    """A misspelt first word of an option would be added to the config and change nothing."""
    for key in options:
        first = key.split('.')[0]
        if '.' in key and first not in config:
            raise ValueError(f"--cfg-options {key}: the config has no '{first}'.{nearest(first, config.keys())}")
