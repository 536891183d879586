"""Attention strategies by what people write: a name, a name with parameters, a dict."""

from __future__ import annotations

import ast
import copy
import inspect
from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

from ..models.attention import Attention
from ..models.decoders import Decoder
from ..utils.checks import build_strategy, find_registered

OWN = 'config'  # the word for the attention of the config
_FORMS = "Name, Name(key=value) or dict(type='Name', key=value), such as LocalSelfAttention(window=5)"


@dataclass
class Strategy:
    """An attention that is bound to the tower of a model.

    Attributes:
        label: What pictures call it.
        attention: The strategy.
        decoder: One that runs with this attention, for the scores between several passes; None where the
            model's decoder has no attention to be exchanged.
    """

    label: str
    attention: Attention
    decoder: Decoder | None


def parse_attention(text: str) -> dict:
    """Read the config of an attention from a command line.

    Args:
        text: `Name`, `Name(key=value, ...)`, `dict(type='Name', ...)` or a dict as Python writes it. Values are
            Python's: numbers, quoted words, lists.

    Raises:
        ValueError: It is none of these.
    """
    try:
        node = _CallsToDicts().visit(ast.parse(text.strip(), mode='eval').body)
        config = dict(type=node.id) if isinstance(node, ast.Name) else ast.literal_eval(node)
    except (SyntaxError, TypeError, ValueError) as error:
        raise ValueError(f'The attention {text!r} cannot be read. It is written as {_FORMS}.') from error
    if not isinstance(config, dict) or not isinstance(config.get('type'), str):
        raise ValueError(f'The attention {text!r} names no type. It is written as {_FORMS}.')
    return config


class _CallsToDicts(ast.NodeTransformer):
    """Name(key=value) to {'type': 'Name', 'key': value}, and dict(key=value) to {'key': value}, at any depth."""

    def visit_Call(self, node: ast.Call) -> ast.Dict:
        self.generic_visit(node)
        if not isinstance(node.func, ast.Name) or node.args or any(word.arg is None for word in node.keywords):
            raise ValueError('no call of a name with keywords')
        pairs = [(word.arg, word.value) for word in node.keywords]
        if node.func.id != 'dict':
            pairs = [('type', ast.Constant(node.func.id)), *pairs]
        return ast.Dict([ast.Constant(key) for key, _ in pairs], [value for _, value in pairs])


def describe(config: Mapping) -> str:
    """The name of an attention, with the parameters that are not the defaults of its class."""
    cls = find_registered('The attention', config['type'], Attention)
    defaults = {name: parameter.default for name, parameter in inspect.signature(cls).parameters.items()}
    more = [
        f'{key}={value!r}'
        for key, value in config.items()
        if key not in ('type', '_scope_') and _plain(value) != _plain(defaults.get(key, inspect.Parameter.empty))
    ]
    name = config['type'] if isinstance(config['type'], str) else config['type'].__name__
    return f'{name}({", ".join(more)})' if more else name


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


def bind_strategy(model: nn.Module, entry: str | Mapping | Attention, model_config: Mapping | None = None) -> Strategy:
    """Build an attention and bind it to a model, which is not changed.

    Args:
        model: An `SCLIPSegmentor`.
        entry: What `parse_attention` reads, the word 'config' for the model's own attention with what it has
            learned, a config, or an instance that is not bound yet.
        model_config: Of the model; from it the label of its own attention has the parameters.

    Raises:
        ValueError: The attention is unknown or its parameters are wrong, or it wants several passes that
            the model's decoder cannot make with it.
    """
    own = getattr(model.backbone.decoder, 'attention', None)
    if entry == OWN:
        if not isinstance(own, Attention):
            raise ValueError(
                f"The config's decoder, {type(model.backbone.decoder).__name__}, has no attention of its own to show. "
                'Name one, such as VanillaSelfAttention.'
            )
        return Strategy(_own_label(own, model_config), own, model.backbone.decoder)
    config = parse_attention(entry) if isinstance(entry, str) else entry
    label = describe(config) if isinstance(config, Mapping) else type(config).__name__
    attention = build_strategy('The attention', config, Attention)
    tower, decoder = model.backbone.tower, None
    if isinstance(own, Attention):
        # A decoder of the model's kind, since it binds its attention and may settle more than that.
        decoder = copy.deepcopy(model.backbone.decoder)
        decoder.attention = attention
        decoder.bind(tower)
    else:
        attention.bind(tower)
        if attention.passes > 1:
            raise ValueError(
                f'{label} wants {attention.passes} passes with scores in between, and the decoder of the config, '
                f'{type(model.backbone.decoder).__name__}, has no attention that it could stand in for. Take a config '
                'whose decoder has one, such as LastBlock.'
            )
    device = next(tower.parameters()).device
    (attention if decoder is None else decoder).to(device).eval()
    return Strategy(label, attention, decoder)


def _own_label(own: Attention, model_config: Mapping | None) -> str:
    try:
        return describe(model_config['backbone']['decoder']['attention'])
    except (KeyError, TypeError):  # the backbone's default
        return type(own).__name__
