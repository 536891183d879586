"""Loading a config for a tool, and the flags that several tools share."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from mmengine.config import Config

from ..models.clip.config import SCHEMAS
from ..models.text import find_vocabulary
from ..paths import config_path
from ..utils.checks import nearest


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
    config = Config.fromfile(path)
    if options:
        _check_options(config, options)
        config.merge_from_dict(dict(options))
    if 'model' not in config or 'test_dataloader' not in config:
        raise ValueError(
            f'{path} has no {"model" if "model" not in config else "test_dataloader"}. Start from a shipped '
            'config: _base_ = [...], or copy one that `mmseg-sclip configs` lists.'
        )
    head = config.model.get('decode_head')
    if head is not None and isinstance(head.get('vocabulary'), str):
        head.vocabulary = str(find_vocabulary(head.vocabulary, [path.resolve().parent]))
    return config


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
