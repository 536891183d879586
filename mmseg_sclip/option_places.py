"""Which settings of a config are read, and where the value of a name that only fed other settings has gone."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mmengine.config import Config
from mmengine.runner import Runner

# What MMEngine's runner reads of a config beside its arguments.
_BESIDE_ARGUMENTS = (
    'activation_checkpointing',
    'compile',
    'efficient_conv_bn_eval',
    'find_unused_parameters',
    'model_wrapper_cfg',
    'sync_bn',
)
READ = {*inspect.signature(Runner.__init__).parameters, *_BESIDE_ARGUMENTS} - {'self', 'cfg'}
READ |= {'custom_imports', 'label', 'tta_model', 'tta_pipeline'}
_ORDER = ('test', 'model', '', 'tta', 'val', 'train', 'optim')  # of first words in messages

Place = tuple[str, ...]


def effective(config: Config) -> list[str]:
    """The first words of settings that are read, those of the test in front and those of a training at the end."""
    # MMEngine's runner takes a data_preprocessor as a default only.
    model = config.get('model')
    own = isinstance(model, Mapping) and 'data_preprocessor' in model
    return sorted(READ - ({'data_preprocessor'} if own else set()), key=lambda key: (_rank(key), key))


def _rank(key: str) -> int:
    """The place of a first word in messages."""
    return next((number for number, start in enumerate(_ORDER) if start and key.startswith(start)), 2)


def gone_to(config: Config, first: str, rest: Place) -> list[Place]:
    """Where the value of a name is read; the rest of an option takes effect below these places."""
    value, found = _plain(config[first]), _settings(config)
    # Numbers, switches and None stand in many places that have nothing to do with each other.
    telling = isinstance(value, (dict, list, str)) and bool(value)
    places = [place for place, item in found if item == value and (telling or _named(place, first))]
    named = [place for place in places if _named(place, first)]
    if named and isinstance(value, str):
        return named
    part = None if all(key.isdigit() for key in rest) else _at(value, rest)  # any list may hold a single number
    if not places and part is not None:  # it was merged with others, or taken apart
        places = [place[: -len(rest)] for place, item in found if place[-len(rest) :] == rest and item == part]
    return sorted(dict.fromkeys(places), key=lambda place: (_rank((*place, *rest)[0]), place not in named))


def namesakes(config: Config, name: str, rest: Sequence[str], start: str = '') -> list[Place]:
    """Settings of a name, or of its end, that are read; `start` begins the first word of the latter."""
    inner = [place for place, item in _settings(config) if place[1:] and (not rest or rest[0] in dict(_items(item)))]
    same = [place for place in inner if place[-1] == name]
    return same or [
        place for place in inner if _named(place, name) and place[0].startswith(start) and place[-1] != 'type'
    ]


def _named(place: Place, name: str) -> bool:
    return place[-1] == name or name.endswith(f'_{place[-1]}')  # test_pipeline, dataset_type


def _settings(config: Config) -> list[tuple[Place, Any]]:
    """All settings that are read, whole dicts and lists among them, with their places."""
    whole = _plain(config.to_dict())
    return [pair for key in effective(config) if key in whole for pair in _walk(whole[key], (key,))]


def _plain(value: Any) -> Any:
    """The same, with lists in place of tuples."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def _items(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        yield from value.items()
    elif isinstance(value, list):
        yield from ((str(number), item) for number, item in enumerate(value))


def _walk(value: Any, place: Place) -> Iterator[tuple[Place, Any]]:
    yield place, value
    for key, item in _items(value):
        yield from _walk(item, (*place, key))


def _at(value: Any, path: Sequence[str]) -> Any:
    for key in path:
        value = dict(_items(value)).get(key)
    return value
