"""Attentions by what people write: a name, a name with parameters, a dict."""

from __future__ import annotations

import ast
import difflib
import inspect
from collections.abc import Mapping

from mmseg.registry import MODELS

from ..checks import find_registered
from ..errors import ConfigError
from ..models.attention.base import Attention

# Methods that differ in their attention only, and its class.
METHODS = dict(CLIP='VanillaSelfAttention', MaskCLIP='IdentityAttention', SCLIP='CorrelativeSelfAttention')
_FORMS = "Name, Name(key=value) or dict(type='Name', key=value), such as SCLIP or LocalSelfAttention(window=5)"


def parse_attention(text: str) -> dict:
    """Read the config of an attention from what a person writes.

    Args:
        text: `Name`, `Name(key=value, ...)`, `dict(type='Name', ...)` or a dict as Python writes it. The name is that
            of a registered class or a key of METHODS, in upper or lower case. Values are Python's: numbers, quoted
            words, lists.

    Raises:
        ConfigError: It is none of these, or there is no such attention.
    """
    try:
        node = _CallsToDicts().visit(ast.parse(text.strip(), mode='eval').body)
        config = dict(type=node.id) if isinstance(node, ast.Name) else ast.literal_eval(node)
    except (SyntaxError, TypeError, ValueError) as error:
        raise ConfigError(f'The attention {text!r} cannot be read. It is written as {_FORMS}.') from error
    if not isinstance(config, dict) or not isinstance(config.get('type'), str):
        raise ConfigError(f'The attention {text!r} does not name a type. It is written as {_FORMS}.')
    return {**config, 'type': _registered_name(config['type'])}


def describe_attention(config: Mapping) -> str:
    """The name of an attention, with the parameters that are not the defaults of its class."""
    cls = find_registered('The attention', config['type'], Attention)
    defaults = {name: parameter.default for name, parameter in inspect.signature(cls).parameters.items()}
    more = [
        f'{key}={value!r}'
        for key, value in config.items()
        if key not in ('type', '_scope_') and _as_list(value) != _as_list(defaults.get(key, inspect.Parameter.empty))
    ]
    return f'{cls.__name__}({", ".join(more)})' if more else cls.__name__


def _registered_name(name: str) -> str:
    classes = MODELS.module_dict.items()
    names = [key for key, value in classes if inspect.isclass(value) and issubclass(value, Attention)]
    known = {key.lower(): key for key in [*names, *METHODS]}
    if name.lower() in known:
        name = known[name.lower()]
        return METHODS.get(name, name)
    if name in MODELS.module_dict:
        raise ConfigError(f'{name} is not an Attention. Known: {", ".join(known.values())}.')
    near = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.5)
    hint = f" Did you mean '{known[near[0]]}'?" if near else ''
    raise ConfigError(
        f'There is no attention {name!r}.{hint} Known: {", ".join(known.values())}. A class of your own must be '
        "imported first: custom_imports=dict(imports=['mmseg_sclip', 'your_module']) in the config."
    )


def _as_list(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


class _CallsToDicts(ast.NodeTransformer):
    """Name(key=value) to {'type': 'Name', 'key': value}, and dict(key=value) to {'key': value}, at any depth."""

    def visit_Call(self, node: ast.Call) -> ast.Dict:
        self.generic_visit(node)
        if not isinstance(node.func, ast.Name) or node.args or any(word.arg is None for word in node.keywords):
            raise ValueError('not a call of a name with keywords')
        pairs = [(word.arg, word.value) for word in node.keywords]
        if node.func.id != 'dict':
            pairs = [('type', ast.Constant(node.func.id)), *pairs]
        return ast.Dict([ast.Constant(key) for key, _ in pairs], [value for _, value in pairs])
