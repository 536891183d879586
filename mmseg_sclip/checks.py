"""Checks of what users write in configs, with messages that name the nearest allowed word."""

import inspect
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

from mmengine.registry import Registry
from mmseg.registry import MODELS

from .errors import ConfigError, nearest
from .rules import AtLeast, check_value, check_values

# Types that are registered no longer, and what to write in their place.
_MOVED = {
    'WithMeanAttention': "is now the affinity part MeanAttention: take backbone.decoder's own decoder and set "
    "decode_head.affinity=dict(type='MeanAttention')",
    'LastBlockWithAffinity': 'is LastBlock now, and SegmentVoting names its affinity itself: '
    "dict(type='SegmentVoting', affinity=dict(type='TokenSimilarity', block=-2))",
}


def check_keys(where: str, got: Iterable[str], allowed: Iterable[str]) -> None:
    """Refuse unknown keys.

    Args:
        where: The place in the config, as the message shall call it.
        got: The keys found there.
        allowed: All keys that may stand there.

    Raises:
        ConfigError: A key is unknown; the message names the nearest known one.
    """
    allowed = list(allowed)
    for key in got:
        if key not in allowed:
            raise ConfigError(f"Unknown key '{key}' in {where}.{nearest(key, allowed)} Allowed: {', '.join(allowed)}.")


def check_choice(where: str, got: Any, allowed: Iterable[Any]) -> None:
    """Refuse a value that is not one of `allowed`.

    Raises:
        ConfigError: With the allowed values and the nearest one.
    """
    allowed = list(allowed)
    if got not in allowed:
        raise ConfigError(f'{where} is {got!r}.{nearest(got, allowed)} Allowed: {", ".join(map(repr, allowed))}.')


def check_switch(where: str, got: Any) -> None:
    """Refuse what is neither True nor False; the word 'no' of a command line would count as true.

    Raises:
        ConfigError: With the value.
    """
    check_value(where, got, bool)


def check_number(where: str, got: Any) -> None:
    """Refuse what is not a number.

    Raises:
        ConfigError: With the value.
    """
    check_value(where, got, float)


def check_whole(where: str, got: Any, least: int) -> None:
    """Refuse what is not a whole number from `least` on.

    Raises:
        ConfigError: With the value.
    """
    check_value(where, got, Annotated[int, AtLeast(least)])


def find_registered(where: str, name: str | type, base: type = object) -> Any:
    """What is registered with MMSeg under `name`; a class is returned as it is.

    Args:
        where: The place in the config, as messages shall call it.
        name: A type of a config.
        base: Classes that do not derive from it are not proposed.

    Raises:
        ConfigError: Nothing is; the message names the nearest known word, or what has become of the type.
    """
    found = class_of(MODELS, name)
    if found is None and name in _MOVED:
        raise ConfigError(f"{where} has the type '{name}', which {_MOVED[name]}.")
    if found is None:
        known = [key for key, value in MODELS.module_dict.items() if inspect.isclass(value) and issubclass(value, base)]
        listed = '' if base is object else f' Known: {", ".join(sorted(known))}.'
        raise ConfigError(
            f"{where} has the type '{name}', which is not registered.{nearest(name, known)}{listed} A class of your "
            "own must be imported first: custom_imports=dict(imports=['mmseg_sclip', 'your_module'])."
        )
    return found


def class_of(registry: Registry, kind: Any) -> Any:
    """What a `type` of a config stands for: a registered name, or the class itself; None where the name is unknown."""
    return registry.get(kind) if isinstance(kind, str) else kind


def is_a(registry: Registry, entry: Mapping, *bases: type) -> bool:
    """Whether what an entry of a config names is one of some classes, or derives from one.

    Args:
        registry: Where the entry's `type` is registered, such as TRANSFORMS.
        entry: With a `type`, a name or a class.
        bases: The classes.
    """
    cls = class_of(registry, entry['type'])
    return inspect.isclass(cls) and issubclass(cls, bases)


def check_parameters(where: str, cls: Any, got: Iterable[str], hidden: Iterable[str] = ()) -> None:
    """Refuse keys of a config that are not parameters of its class; `type` is left aside.

    A class may say in a dict `moved` what is written now in place of a parameter that it no longer has.

    Args:
        where: The place in the config, as the message shall call it.
        cls: What will be called with the keys. Of one that takes any keyword only those in `moved` are refused.
        got: The keys found there.
        hidden: Parameters that do not come from the user.

    Raises:
        ConfigError: A key is unknown; the message names the nearest known one.
    """
    parameters = inspect.signature(cls).parameters
    for key in got:
        if key not in parameters and key in getattr(cls, 'moved', {}):
            raise ConfigError(f"{where} has no key '{key}' any more: {cls.moved[key]}.")
    if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        allowed = [key for key in parameters if key not in tuple(hidden)]
        check_keys(where, [key for key in got if key != 'type'], allowed)


def check_arguments(where: str, cls: Any, config: Mapping[str, Any], hidden: Iterable[str] = ()) -> None:
    """Refuse arguments of a config whose names or values its class does not allow; see `rules`.

    Args:
        where: The place in the config, as messages shall call it.
        cls: What will be called with them.
        config: The arguments; a `type` is left aside.
        hidden: Parameters that do not come from the user.

    Raises:
        ConfigError: With the name or the value, and what is allowed.
    """
    name = getattr(cls, '__name__', cls)
    check_parameters(f'{where} ({name})', cls, config, hidden)
    if inspect.isclass(cls):
        check_values(f'{where}: {name}', cls, config)


def build_strategy(where: str, config: Any, base: type, **extra: Any) -> Any:
    """Build a registered strategy (an attention, a decoder) after checking its name and its arguments.

    Args:
        where: The place in the config, as messages shall call it.
        config: The strategy's config with its `type`, or an instance, which is returned as it is.
        base: The class that it must derive from.
        extra: Further arguments that do not come from the user.

    Raises:
        ConfigError: The type is missing, unknown or not a `base`, or an argument has a wrong name or value.
    """
    if isinstance(config, base):
        return config
    if not isinstance(config, Mapping) or 'type' not in config:
        raise ConfigError(f"{where} must be a dict with a 'type', such as dict(type='...'), but is {config!r}.")
    name = config['type']
    cls = find_registered(where, name, base)
    if not (inspect.isclass(cls) and issubclass(cls, base)):
        raise ConfigError(f"{where} has the type '{name}', which is not a kind of {base.__name__}.")
    check_arguments(where, cls, config, hidden=extra)
    return MODELS.build({**config, **extra})
