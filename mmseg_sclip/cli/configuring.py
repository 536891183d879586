"""Loading a config for a tool, and the flags that several tools share."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner

from ..models.clip.config import SCHEMAS
from ..models.text import find_vocabulary
from ..paths import config_path
from ..utils.checks import check_parameters, find_registered, nearest
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
        # A path in our repository names a shipped config from anywhere.
        shipped = Path(*path.parts[1:]) if path.parts[:1] == ('configs',) else path
        if path.suffix == '.py' and (path.is_absolute() or len(shipped.parts) > 2):
            raise FileNotFoundError(
                f'There is no config {path.absolute()}. `mmseg-sclip configs` lists the shipped ones.'
            )
        path = config_path(shipped.as_posix())
    for folder in (path.resolve().parent, Path.cwd()):
        if str(folder) not in sys.path:
            sys.path.insert(0, str(folder))
    config = _read(path)
    if options:
        _check_options(config, options)
        config.merge_from_dict(dict(options))
    _check_whole(config, path)
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
        torch.zeros(1, device=device).item()  # the meta device can make tensors, but holds no numbers
    except Exception as error:  # torch raises RuntimeError, AssertionError and more
        there = ['cpu', *(f'cuda:{i}' for i in range(torch.cuda.device_count()))]
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UsageError(f'--device {name} cannot be used ({reason}). This machine has: {", ".join(there)}.') from error
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


def _check_whole(config: Config, path: Path) -> None:
    """Refuse a config that lacks what every tool needs, or has something else in its place."""
    for key in ('model', 'test_dataloader', 'test_cfg', 'test_evaluator'):
        if config.get(key) is None:
            raise ValueError(
                f'{path} has no {key}{" (it is None)" if key in config else ""}. Start from a shipped config: '
                '_base_ = [...], or copy one that `mmseg-sclip configs` lists.'
            )
    for key in ('model', 'test_dataloader', 'test_dataloader.dataset', 'test_cfg'):
        value = config
        for part in key.split('.'):
            value = value.get(part)
        if not isinstance(value, Mapping):
            raise ValueError(f"{key} is {value!r}; it must be a dict, such as dict(type='...').")
    if 'type' not in config.test_dataloader.dataset:
        raise ValueError(
            "test_dataloader.dataset has no type. Name a registered dataset: dict(type='PascalVOCDataset', ...)."
        )
    evaluator = config.test_evaluator
    if not (_is_list_of(evaluator, Mapping) and evaluator or isinstance(evaluator, Mapping)):
        raise ValueError(
            f"test_evaluator is {evaluator!r}; it must be a dict, such as dict(type='IoUMetric', "
            "iou_metrics=['mIoU']), or a list of such dicts."
        )
    hooks = config.get('default_hooks')
    if not (hooks is None or isinstance(hooks, Mapping)):
        raise ValueError(f"default_hooks is {hooks!r}; it must be a dict, such as dict(timer=dict(type='...')).")
    hooks = config.get('custom_hooks')
    if not (hooks is None or _is_list_of(hooks, (Mapping, Hook))):
        raise ValueError(
            f"custom_hooks is {hooks!r}; it must be a list of dicts, such as [dict(type='VocabularyCheckHook')]."
        )


def _is_list_of(value: object, kind: type | tuple[type, ...]) -> bool:
    return isinstance(value, (list, tuple)) and all(isinstance(item, kind) for item in value)


def _check_part(config: Config, where: str) -> None:
    """Refuse a misspelt type or key; Python's own message would not say which words are allowed."""
    part = config.model if where == 'model' else config.model.get(where.partition('.')[2])
    if not isinstance(part, Mapping) or not isinstance(part.get('type'), str):
        return
    cls = find_registered(where, part['type'])
    check_parameters(f'{where} ({cls.__name__})', cls, [key for key in part if key[0] != '_'])


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
    read = {key: value.default for key, value in inspect.signature(Runner.__init__).parameters.items()}
    for key in options:
        first, dot, _ = key.partition('.')
        # The runner reads some settings that a config need not have; below a dot only those that are dicts.
        others = [name for name, default in read.items() if not dot or isinstance(default, Mapping)]
        allowed = {*config.keys(), *others} - {'self', 'cfg'}
        if first not in allowed:
            raise ValueError(
                f"--cfg-options {key}: the config has no '{first}', and nothing would read it."
                f'{nearest(first, allowed)} The config has: {", ".join(sorted(config.keys()))}.'
            )
