"""Which files of weights a model needs; nothing is fetched or loaded to find out."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from mmseg.registry import MODELS

from ..checks import class_of
from ..errors import MissingFileError
from .clip.config import ClipConfig
from .clip.weights_file import pretrained_clip
from .companions.base import build_companions, pretrained_of
from .heads.base import Head
from .hub import why_unreachable
from .pretrained import Pretrained
from .towers.source import OPEN_CLIP, TowerSource, build_source

CLIP = 'clip'  # what `--weights` calls the first file of `model.clip`


def needed_weights(model: Mapping[str, Any]) -> dict[str, Pretrained]:
    """The files of weights of the `model` of a config, by what `--weights NAME=FILE` calls them.

    First those of its towers, then those of its companions, and what its head reads. A model of MMSegmentation needs
    none here.

    Raises:
        ConfigError: A setting is wrong.
    """
    companions = pretrained_of(build_companions(model.get('companions')))
    return {**_of_towers(model.get('clip')), **companions, **files_of_head(model)}


def _of_towers(clip: Mapping[str, Any] | TowerSource | None) -> dict[str, Pretrained]:
    if clip is None:
        return {}
    if isinstance(clip, Mapping) and str(clip.get('model_name')).startswith('hf-hub:'):  # the hub is not asked
        own = pretrained_clip(ClipConfig.parse({key: value for key, value in clip.items() if key != 'type'}))
        return {} if own is None else {CLIP: own}
    files = build_source(clip, 'The config').all_pretrained
    return {name: replace(file, name=name) for name, file in files.items()}


def weights_settings(model: Mapping[str, Any]) -> dict[str, str]:
    """The settings of a config that name files of weights, by what `--weights NAME=FILE` calls these.

    Besides those of `needed_weights` these are the `pretrained` of parts that have none now, or random ones.

    Raises:
        ConfigError: A setting is wrong.
    """
    clip, companions = model.get('clip'), model.get('companions') or {}
    found = {}
    if clip is not None and clip.get('type', OPEN_CLIP) == OPEN_CLIP:
        found = {CLIP: 'model.clip.pretrained'}
    elif clip is not None:
        found = {CLIP: 'model.clip.pretrained'} if _takes_weights(clip) else {}
        found |= {name: file.setting for name, file in _of_towers(clip).items()}
    takes = {name for name, own in companions.items() if _takes_weights(own)}
    found |= {name: f'model.companions.{name}.pretrained' for name in takes}
    # The others only: a companion may need the file that is about to be named.
    rest = build_companions({name: own for name, own in companions.items() if name not in takes})
    others = {**pretrained_of(rest), **files_of_head(model)}
    return found | {name: file.setting for name, file in others.items()}


def _takes_weights(part: Mapping[str, Any]) -> bool:
    cls = class_of(MODELS, part.get('type'))
    return cls is not None and 'pretrained' in inspect.signature(cls).parameters


def files_of_head(model: Mapping[str, Any]) -> dict[str, Pretrained]:
    """What the head of the `model` of a config reads from files beside weights; see `Head.files`."""
    config: Any = model.get('decode_head')
    kind = class_of(MODELS, config.get('type')) if isinstance(config, Mapping) else None
    return kind.files(config) if isinstance(kind, type) and issubclass(kind, Head) else {}


def check_weights(model: Mapping[str, Any], fetch: bool = True) -> None:
    """Look for all weights of a model before anything large is done.

    Args:
        model: Of a config.
        fetch: Download what can be had; otherwise only find out whether it can.

    Raises:
        ConfigError: A setting is wrong.
        MissingFileError: With what is missing, and what to do about it.
    """
    missing = [file for file in needed_weights(model).values() if file.find() is None]
    missing.sort(key=lambda file: file.downloadable)
    try:
        for file in missing:
            if fetch or not file.downloadable:
                file.fetch()
            elif reason := why_unreachable():
                raise MissingFileError(file.missing(reason))
            else:
                break  # the others can be downloaded, too
    except MissingFileError as error:
        more = sum(file.find() is None for file in missing) - 1
        if not more:
            raise
        files = 'One more file is' if more == 1 else f'{more} more files are'
        raise MissingFileError(f'{error} {files} missing, too; `mmseg-sclip weights CONFIG` lists them.') from error
