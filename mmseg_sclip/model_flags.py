"""The flags that change which weights a config reads: `--model-name`, `--pretrained` and `--weights NAME=FILE`."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.config import Config
from mmengine.dist import is_main_process

from .errors import ConfigError, nearest
from .models.clip.config import SCHEMAS
from .models.needed import CLIP, needed_weights, weights_settings
from .models.towers.source import OPEN_CLIP


def apply_model_flags(
    config: Config, model_name: str | None, pretrained: str | None, weights: Mapping[str, str] | None = None
) -> None:
    """Put `--model-name`, `--pretrained` and `--weights` into the model of a config.

    Args:
        config: It is changed.
        model_name: An architecture of open_clip.
        pretrained: The first weights of `model.clip`: a tag or a file.
        weights: Files by names, see `weights_settings`; `clip` is the same as `pretrained`.

    Raises:
        ConfigError: The config's model has no CLIP of open_clip, or needs no such weights.
    """
    weights = with_clip(pretrained, weights)
    for flag, value in (('--model-name', model_name), ('--pretrained', weights.get(CLIP))):
        if value is None:
            continue
        if 'clip' not in config.model:
            raise ConfigError(f"{flag} changes model.clip, which this config's model does not have.")
        takes = flag == '--pretrained' and CLIP in weights_settings(config.model)
        if not is_open_clip(config) and not takes:
            raise ConfigError(
                '--model-name and --pretrained name a model of open_clip, but model.clip is a '
                f'{config.model.clip.type}, which has settings of its own. Leave the flags out; --cfg-options '
                'model.clip.KEY=VALUE changes those.'
            )
    if model_name is not None:
        config.model.clip.model_name = model_name
        if model_name.startswith(SCHEMAS) and CLIP not in weights:
            config.model.clip.pretrained = None  # the schema brings its own weights
    known = weights_settings(config.model) if weights else {}
    for name, file in weights.items():
        if name not in known:
            raise _unknown(name, known, 'this config needs')
        _set(config, known[name], os.fspath(file))


def apply_model_flags_to_all(
    configs: Sequence[tuple[str, Config]],
    model_name: str | None,
    pretrained: str | None,
    weights: Mapping[str, str] | None = None,
) -> None:
    """Put the flags into those of several configs that they fit; the others are named.

    `--model-name` and `--pretrained` are for a CLIP of open_clip. Where none of the configs has one, `--pretrained` is
    for the source that all have in common.

    Args:
        configs: With the names that messages shall call them.
        model_name: As in `apply_model_flags`, like the others.
        pretrained: As there.
        weights: As there. A companion of one name must be the same network in all configs.

    Raises:
        ConfigError: A flag fits none of the configs, or means another network in one than in another.
    """
    weights = with_clip(pretrained, weights)
    if model_name is None and not weights:
        return
    for name in weights:
        if name != CLIP:
            _check_same(name, configs)
    clips = [config for _, config in configs if takes_clip_flags(config, configs, model_name)]
    if (model_name is not None or CLIP in weights) and not clips:
        raise ConfigError('--model-name and --pretrained change a CLIP of open_clip, which none of these configs has.')
    for _, config in configs:
        apply_where_they_fit(config, model_name, weights, any(config is own for own in clips))
    without = {name: None for name, config in configs if all(config is not own for own in clips)}
    if clips and without and (model_name is not None or CLIP in weights) and is_main_process():
        print(
            '--model-name and --pretrained leave these configs alone, which have no CLIP of open_clip: '
            f'{", ".join(without)}.',
            file=sys.stderr,
        )


def apply_where_they_fit(
    config: Config, model_name: str | None, weights: Mapping[str, str], clip: bool | None = None
) -> None:
    """Put into one of several configs what fits it; arguments as in `apply_model_flags`.

    Args:
        config: It is changed.
        model_name: As there.
        weights: As there.
        clip: Whether it gets `model_name` and the weights `clip`; None where its CLIP is one of open_clip.
    """
    clip = is_open_clip(config) if clip is None else clip
    known = weights_settings(config.model) if weights else {}
    fitting = {name: file for name, file in weights.items() if name in known and (clip or name != CLIP)}
    apply_model_flags(config, model_name if clip else None, None, fitting)


def is_open_clip(config: Config) -> bool:
    """Whether both towers come from open_clip."""
    return 'clip' in config.model and config.model.clip.get('type', OPEN_CLIP) == OPEN_CLIP


def with_clip(pretrained: str | None, weights: Mapping[str, str] | None) -> dict[str, str]:
    """Files of weights by name, `--pretrained` among them.

    Raises:
        ConfigError: It is not the same as `--weights clip=FILE`.
    """
    weights = dict(weights or {})
    if pretrained is not None and weights.get(CLIP, pretrained) != pretrained:
        raise ConfigError(f'--pretrained {pretrained} and --weights clip={weights[CLIP]} contradict. Leave one out.')
    return weights if pretrained is None else {CLIP: pretrained, **weights}


def takes_clip_flags(config: Config, configs: Sequence[tuple[str, Config]], model_name: str | None) -> bool:
    """Whether `--model-name` and `--pretrained` are meant for one of several configs."""
    if model_name is not None or any(is_open_clip(own) for _, own in configs):
        return is_open_clip(config)
    kinds = {str((own.model.get('clip') or {}).get('type')) for _, own in configs}
    return len(kinds) == 1 and CLIP in weights_settings(config.model)


def _check_same(name: str, configs: Sequence[tuple[str, Config]]) -> None:
    """Refuse a name that no config knows, or that means several networks."""
    known = {own for _, config in configs for own in weights_settings(config.model)}
    if name not in known:
        raise _unknown(name, known, 'these configs need')
    needed = {own: needed_weights(config.model).get(name) for own, config in configs}
    meant = {file.what: own for own, file in needed.items() if file is not None}
    if len(meant) > 1:
        raise ConfigError(
            f'--weights {name}=FILE means several networks here: '
            f'{", ".join(f"{what} in {own}" for what, own in meant.items())}. Leave it out, and put the files into '
            'the folder that `mmseg-sclip weights` names, under their published names.'
        )


def _unknown(name: str, known: Any, needs: str) -> ConfigError:
    names = sorted(known)
    return ConfigError(
        f'--weights {name}=FILE: {needs} no weights of that name.{nearest(name, names)} Known: '
        f'{", ".join(names) or "none"}.'
    )


def _set(config: Config, setting: str, value: str) -> None:
    node: Any = config
    *parents, key = setting.split('.')
    for parent in parents:
        node = node[parent]
    node[key] = value
