"""Options: settings of a config by dotted names. An option that would change nothing is refused."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mmengine.config import Config
from mmseg.registry import DATASETS

from .checks import class_of, nearest
from .errors import ConfigError
from .option_places import READ, effective, gone_to, namesakes

# Set anew for every run.
_INSTEAD = {
    'launcher': 'each run sets it anew. Commands have --launcher; in Python, set config.launcher after reading.',
    'resume': 'each run sets it anew. Commands have --resume, and functions resume=True.',
}
_KNOWN = {
    'env_cfg': ('cudnn_benchmark', 'mp_cfg', 'dist_cfg', 'resource_limit'),
    'custom_imports': ('imports', 'allow_failed_imports'),
}
_LIBRARIES = ('mmseg_sclip', 'mmseg', 'mmengine', 'mmcv')
_NAMED = 3  # places that a message names


def check_options(config: Config, options: Mapping) -> None:
    """Refuse options that would change nothing.

    What ends in an error when it is built, such as an unknown argument of a transform, is left to that error.

    Args:
        config: Before the options are put in.
        options: Values by dotted names; a dict as value is looked into.

    Raises:
        ConfigError: With the places that do have an effect, or the nearest known name.
    """
    refuse_overwritten(options, _INSTEAD)
    for path in _paths(options):
        first, *rest = path
        if first not in config and first not in READ:
            places = _joined(namesakes(config, first, rest), rest)
            known = f'{nearest(first, {*config.keys(), *READ} - {*_INSTEAD})} The config has: {_listed(config)}.'
            raise ConfigError(
                f"The option {'.'.join(path)} would change nothing: the config has no '{first}', and nothing would "
                f'read it.{f" Did you mean {places}?" if places else known}'
            )
        if first in effective(config):
            _check_inside(config, path)
        else:
            _refuse_unread(config, first, rest)


def name_companions(options: Mapping | None) -> bool:
    """Whether some of the options are settings of second networks."""
    return any(str(option).startswith('model.companions.') for option in options or {})


def own_options(config: Config, options: Mapping | None, others: Sequence[Config] = ()) -> dict[str, Any]:
    """Options without those of second networks that a config does not have, for commands that take several configs.

    Args:
        config: Before the options are put in.
        options: Values by dotted names.
        others: The other configs; what none has is left in, so that it ends in an error.
    """

    def lacks(one: Config, name: str) -> bool:
        return name not in (one.get('model', {}).get('companions') or {})

    def foreign(option: str) -> bool:
        first, second, name, key = [*option.split('.', 3), '', '', ''][:4]
        if (first, second) != ('model', 'companions') or not key or f'model.companions.{name}.type' in (options or {}):
            return False
        return lacks(config, name) and not all(lacks(other, name) for other in others)

    return {option: value for option, value in (options or {}).items() if not foreign(option)}


def refuse_overwritten(options: Mapping | None, instead: Mapping[str, str]) -> None:
    """Refuse options that a command sets itself.

    Args:
        options: As `check_options` takes them.
        instead: First words of options, and what to do in their place.

    Raises:
        ConfigError: There is one.
    """
    for path in _paths(options or {}):
        if path[0] in instead:
            raise ConfigError(f'The option {".".join(path)} would change nothing: {instead[path[0]]}')


def _paths(options: Mapping, before: Sequence[str] = ()) -> Iterator[list[str]]:
    """The keys on the way to each value."""
    for key, value in options.items():
        path = [*before, *str(key).split('.')]
        if isinstance(value, Mapping) and value and not value.get('_delete_'):
            yield from _paths(value, path)
        else:
            yield path


# --- names that only fed other settings while the file was read ---


def _refuse_unread(config: Config, first: str, rest: Sequence[str]) -> None:
    option, own = '.'.join([first, *rest]), _own_modules(config)
    places = _joined(gone_to(config, first, tuple(rest)), rest)
    if first == 'data_preprocessor':
        places, why = _joined([('model', first)], rest), 'the model has a data_preprocessor of its own'
    elif places:
        why = f'{first} only fed other settings while the config was read'
    elif own:
        warnings.warn(
            f'The option {option} changes something only if {", ".join(own)} (custom_imports) reads it: nothing else '
            'does.',
            stacklevel=5,
        )
        return
    else:
        # A file further down may have replaced what the name fed.
        places, why = _joined(namesakes(config, first, rest, f'{first.partition("_")[0]}_'), rest), 'nothing reads it'
    advice = f'Set {places} in its place.' if places else 'Set what is built from it in its place.'
    raise ConfigError(f'The option {option} would change nothing: {why}. {advice}')


def _joined(places: Sequence[Sequence[str]], rest: Sequence[str]) -> str:
    words = ['.'.join([*place, *rest]) for place in places[:_NAMED]]
    return ' and '.join(filter(None, [', '.join(words[:-1]), *words[-1:]]))


def _listed(config: Config) -> str:
    return ', '.join(sorted(config.keys()))


def _own_modules(config: Config) -> list[str]:
    imports = (config.get('custom_imports') or {}).get('imports') or []
    imports = [imports] if isinstance(imports, str) else imports
    return [name for name in imports if name.partition('.')[0] not in _LIBRARIES]


# --- names below a setting that is read ---


def _check_inside(config: Config, path: Sequence[str]) -> None:
    outer: Any = {}
    item: Any = config
    for depth, key in enumerate(path):
        where = '.'.join(path[:depth])
        if isinstance(item, list):
            if not key.isdigit() or int(key) >= len(item):
                entries = f'entries 0 to {len(item) - 1}' if item else 'no entry'
                raise ConfigError(f"The option {'.'.join(path)}: {where} is a list with {entries}, not '{key}'.")
            outer, item = item, item[int(key)]
        elif isinstance(item, (Mapping, Config)):
            if key not in item:
                _check_new(config, where, item, outer, key)
            outer, item = item, item.get(key, {})
        else:
            raise ConfigError(f'The option {".".join(path)}: {where} is {item!r}. Set {where} as a whole.')


def _check_new(config: Config, where: str, found: Mapping, owner: Any, key: str) -> None:
    """Refuse a new key in a dict whose readers take no notice of unknown ones."""
    name = where.rpartition('.')[2]
    if where in _KNOWN:
        allowed = {*_KNOWN[where]}
    elif name in ('data_prefix', 'metainfo') and isinstance(owner, Mapping) and not _own_modules(config):
        kinds = getattr(class_of(DATASETS, owner.get('type')), '__mro__', ())
        if not kinds or kinds[0].__module__.partition('.')[0] not in _LIBRARIES:
            return
        allowed = {*found, *(('classes', 'palette') if name == 'metainfo' else _prefixes(kinds))}
    else:
        return
    if key not in allowed:
        raise ConfigError(
            f"The option {where}.{key} would change nothing: nothing reads '{key}' there.{nearest(key, allowed)} "
            f'Allowed: {", ".join(sorted(allowed))}.'
        )


def _prefixes(kinds: Sequence[type]) -> set[str]:
    """The keys that the defaults of a dataset's classes have in `data_prefix`."""
    parameters = [inspect.signature(kind.__init__).parameters for kind in kinds if '__init__' in vars(kind)]
    defaults = [each['data_prefix'].default for each in parameters if 'data_prefix' in each]
    return {key for default in defaults if isinstance(default, Mapping) for key in default}
