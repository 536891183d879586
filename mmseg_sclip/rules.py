"""What an argument may be, read from its annotation.

    steps: Annotated[int, AtLeast(0)] = 10
    reduction: Literal['sum', 'mean'] = 'sum'
    tau: Annotated[float, Positive] | None = None

bool, int, float, str, sequences of them, Literal and the rules of this module are checked. What is annotated in another
way, such as with Mapping or Any, may be anything.
"""

import inspect
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from types import FunctionType, NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from .errors import ConfigError, nearest

_PLAIN = {bool: 'True or False', int: 'a whole number', float: 'a number', str: 'a text', NoneType: 'None'}


@dataclass(frozen=True)
class Rule:
    """What `Annotated[type, rule]` asks of a value of the type.

    Attributes:
        holds: Whether a value is allowed.
        adjective: What stands before the type's name in a message.
        clause: What stands after it.
    """

    holds: Callable[[Any], bool]
    adjective: str = ''
    clause: str = ''


def AtLeast(least: float) -> Rule:
    """A finite number from `least` on."""
    return Rule(lambda value: least <= value < math.inf, clause=f', at least {least}')


def Between(low: float, high: float) -> Rule:
    """A number from `low` to `high`, both included."""
    return Rule(lambda value: low <= value <= high, clause=f' from {low} to {high}')


Positive = Rule(lambda value: 0 < value < math.inf, 'positive')
Odd = Rule(lambda value: value % 2 == 1, 'odd')
NotEmpty = Rule(lambda value: len(value) > 0, 'non-empty')


@dataclass(frozen=True, eq=False)  # equality would need a hash of the table
class OneOf:
    """One of the keys of a table: `Literal` for words that an annotation cannot list."""

    table: Collection[Any]


def check_value(where: str, value: Any, annotation: Any) -> None:
    """Refuse a value that its annotation does not allow.

    Args:
        where: The place in the config, as the message shall call it.
        value: What was given.
        annotation: A type, perhaps with rules.

    Raises:
        ConfigError: With the value, what is allowed, and the nearest word where there is a choice of words.
    """
    if not _fits(annotation, value):
        hint = nearest(value, map(str, _choices(annotation))) if isinstance(value, str) else ''
        raise ConfigError(f'{where} is {value!r}; it must be {_words(annotation)}.{hint}')


def check_values(where: str, cls: type, config: Mapping[str, Any]) -> None:
    """Refuse arguments of a class that the annotations of its `__init__` do not allow.

    Arguments that `**kwargs` hands on to a base class are looked up there. A default is always allowed.

    Args:
        where: The place in the config, as messages shall call it.
        cls: The class.
        config: Its arguments by name; others are not looked at.

    Raises:
        ConfigError: As in `check_value`.
    """
    for name, (annotation, default) in _arguments(cls).items():
        if name in config and config[name] is not default:
            check_value(f'{where}.{name}', config[name], annotation)


def check_fields(where: str, settings: Any) -> None:
    """Refuse a dataclass object whose fields have values that their annotations do not allow.

    Args:
        where: The place in the config, as messages shall call it.
        settings: The object.

    Raises:
        ConfigError: As in `check_value`.
    """
    annotations = get_type_hints(type(settings), include_extras=True)
    for field in fields(settings):
        check_value(f'{where}.{field.name}', getattr(settings, field.name), annotations[field.name])


def _arguments(cls: type) -> dict[str, tuple[Any, Any]]:
    """Annotation and default of each parameter of a class."""
    found: dict[str, tuple[Any, Any]] = {}
    for base in cls.__mro__:
        init = vars(base).get('__init__')
        if not isinstance(init, FunctionType):
            continue
        parameters = inspect.signature(init).parameters
        try:
            annotations = get_type_hints(init, include_extras=True)
        except Exception:  # a name that is imported for type checkers only
            annotations = {}
        for name, parameter in parameters.items():
            found.setdefault(name, (annotations.get(name, Any), parameter.default))
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
            break
    return found


def _choices(annotation: Any) -> list[Any]:
    """All words that an annotation lists."""
    if get_origin(annotation) is Literal:
        return list(get_args(annotation))
    if get_origin(annotation) is Annotated:
        return [word for rule in annotation.__metadata__ if isinstance(rule, OneOf) for word in rule.table]
    return [word for alternative in _alternatives(annotation) for word in _choices(alternative)]


def _alternatives(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) if get_origin(annotation) in (Union, UnionType) else ()


def _rules(annotation: Any) -> list[Rule]:
    return [rule for rule in annotation.__metadata__ if isinstance(rule, Rule)]


def _fits(annotation: Any, value: Any) -> bool:
    """Whether an annotation allows a value."""
    if alternatives := _alternatives(annotation):
        return any(_fits(alternative, value) for alternative in alternatives)
    if choices := _choices(annotation):
        return value in choices
    kind, of = get_origin(annotation), get_args(annotation)
    if kind is Annotated:
        return _fits(of[0], value) and all(rule.holds(value) for rule in _rules(annotation))
    if kind in (Sequence, list, tuple):
        if not isinstance(value, Sequence) or isinstance(value, str):
            return False
        if kind is tuple and of[-1] is not Ellipsis:
            return len(value) == len(of) and all(map(_fits, of, value))
        return all(_fits(of[0], entry) for entry in value)
    if annotation not in _PLAIN:
        return True
    if isinstance(value, bool):  # which is an int, too
        return annotation is bool
    return isinstance(value, (int, float) if annotation is float else annotation)


def _words(annotation: Any) -> str:
    """What an annotation allows."""
    if alternatives := _alternatives(annotation):
        return ', or '.join(map(_words, alternatives))
    if choices := _choices(annotation):
        return f'one of {", ".join(map(repr, choices))}'
    kind, of = get_origin(annotation), get_args(annotation)
    if kind is Annotated:
        noun = _words(of[0])
        for rule in _rules(annotation):
            if rule.adjective:
                noun = f'{"an" if rule.adjective[0] in "aeiou" else "a"} {rule.adjective} {noun.removeprefix("a ")}'
            noun += rule.clause
        return noun
    if kind is tuple and of[-1] is not Ellipsis:
        return f'({", ".join(map(_words, of))})'
    if kind in (Sequence, list, tuple):
        return f'a list, each entry {_words(of[0])}'
    return _PLAIN.get(annotation, f'a {getattr(annotation, "__name__", annotation)}')
