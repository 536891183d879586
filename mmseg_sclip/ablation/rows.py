"""The rows of the SCLIP paper's tables as data: a method, and the options that turn it into the row."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import product
from typing import Any

from ..errors import UsageError, nearest

BENCHMARKS = ('voc21', 'context60', 'coco_object', 'voc20', 'cityscapes', 'context59', 'ade20k', 'coco_stuff164k')
DATASETS = ('demo', *BENCHMARKS, 'coco_stuff10k')


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes:
        method: Its config is `<method>_<dataset>`.
        meaning: In a few words, for the tables.
        options: Dotted config keys and their values.
        short_side: Of the images in pixels; None for the config's own.
        name: As in results, parameters after a colon.
        paper: The name of the row in `paper.json`, None for one that the paper does not have.
        peer: Whether it has networks of its own, which nobody has trained for the demo.
        reading: Which reading of an ambiguous place in the paper it follows; rows of two readings are not compared.
    """

    method: str
    meaning: str
    options: Mapping[str, Any] = field(default_factory=dict)
    short_side: int | None = None
    name: str = ''
    paper: str | None = None
    peer: bool = False
    reading: str | None = None


def _attention(meaning: str, kind: str, **arguments: Any) -> Row:
    return Row('sclip', meaning, {'model.backbone.decoder.attention': dict(_delete_=True, type=kind, **arguments)})


def _projection(meaning: str, projection: Any, gain: float) -> Row:
    meaning = meaning if gain == 1 else f'{meaning}, rows sum to {gain:g}'
    kind = 'CorrelativeSelfAttention'
    return _attention(meaning, kind, projections=[projection], reduction='mean', gain=gain)


def _windows(short_side: int, window: int) -> Row:
    options = {'model.test_cfg.crop_size': (window, window), 'model.test_cfg.stride': (window // 2, window // 2)}
    return Row('sclip', f'short side {short_side}, windows of {window}', options, short_side)


def _peer(method: str, meaning: str, **head: Any) -> Row:
    return Row(method, meaning, {f'model.decode_head.{key}': value for key, value in head.items()}, peer=True)


def _pamr(method: str) -> Callable[..., Row]:
    def row(steps: int = 10, dilations: tuple[int, ...] = (8, 16)) -> Row:
        options = {'model.test_cfg.refine': [dict(type='PAMR', steps=steps, dilations=dilations)]}
        meaning = {**_METHODS, **_PEERS}[method]
        meaning = f'{meaning}, PAMR: {steps} steps, dilations {_text(dilations)}'
        return Row(method, meaning, options, peer=method in _PEERS)

    return row


_METHODS = {
    'clip': "CLIP's own attention",
    'maskclip': 'identity as the last attention',
    'sclip': 'correlative self-attention',
}
# Peers with networks of their own. TCL has rows with and without its PAMR.
_PEERS = {
    'groupvit': 'GroupViT, trained on GCC and YFCC',
    'reco': 'ReCo, with references of each class',
    'segclip': 'SegCLIP',
    'ovsegmentor': 'OVSegmentor',
}
# A row by its name and its parameters; the defaults are the paper's.
FAMILIES: dict[str, Callable[..., Row]] = {
    **{name: lambda name=name, meaning=meaning: Row(name, meaning) for name, meaning in _METHODS.items()},
    **{f'{name}+pamr': _pamr(name) for name in _METHODS},
    **{name: partial(_peer, name, meaning) for name, meaning in _PEERS.items()},
    'groupvit+pamr': _pamr('groupvit'),
    'tcl': lambda: _peer('tcl', 'TCL, without PAMR', pamr_steps=0, background=0.5),
    'tcl+pamr': lambda: _peer('tcl', 'TCL with PAMR on its masks, as its code has it'),
    'identity': lambda gain=1.0: _projection('no projection', 'identity', gain),
    # The paper gives neither the distribution nor the number of its matrices.
    'random': lambda count=1, gain=1.0: _projection(
        f'mean over {count} random matrices', dict(type='RandomProjection', count=count, seed=0), gain
    ),
    'q': lambda gain=1.0: _projection('query projection', 'q', gain),
    'k': lambda gain=1.0: _projection('key projection', 'k', gain),
    'q+k': lambda: Row('sclip', 'sum of both, the default'),
    'learned': lambda: Row('sclip_learned', 'trained on 64 images'),
    'sharpening': lambda temperature=2.0: _attention(
        f"CLIP's logits times {temperature:g}", 'SharpenedSelfAttention', temperature=temperature
    ),
    'local': lambda window=3: _attention(
        f"CLIP's attention within {window} x {window} patches", 'LocalSelfAttention', window=window
    ),
    'earlier': lambda block=3: _attention(f'attention map of block {block}', 'EarlierAttention', block=block),
    # None of the sources that we could read has the setting of mode 3.
    'mode1': lambda: _windows(224, 224),
    'mode2': lambda: _windows(336, 224),
    'mode4': lambda: _windows(448, 224),
    'mode5': lambda: _windows(448, 448),
}
_UNNAMED = ('count', 'temperature', 'window', 'block')  # written without a key in a row's name
_TRAINED = ('groupvit', 'groupvit+pamr', 'reco', 'tcl', 'tcl+pamr', 'segclip', 'ovsegmentor')
_SINGLE = ('identity', 'random', 'q', 'k')
_SEARCH = product(_METHODS, (2, 5, 10, 20), ('1-2', '8-16', '1-2-4-8-12-24'))
TABLES = {
    '1': (
        'Table 1: baselines, SCLIP, PAMR, and peers with networks of their own',
        [*_METHODS, *(f'{name}+pamr' for name in _METHODS), *_TRAINED],
    ),
    '2': (
        'Table 2: what correlative self-attention projects with',
        # The default and the learned projection have rows that sum to 2, for which the residual weighs less.
        [*_SINGLE, 'random:4', *(f'{name}:gain=2' for name in _SINGLE), 'q+k', 'learned'],
    ),
    # The paper's text compares this table with CLIP, MaskCLIP and SCLIP.
    '3': ('Table 3: other ways to localise', [*_METHODS, 'sharpening', 'local', 'earlier']),
    '4': ('Table 4: pre-processing', ['mode1', 'mode2', 'mode4', 'mode5']),
    # From few steps to more than the default.
    'pamr': (
        'Search over the settings of PAMR',
        [*_METHODS, *(f'{name}+pamr:steps={steps},dilations={dilations}' for name, steps, dilations in _SEARCH)],
    ),
}


def select(table: str, names: Sequence[str] | None = None) -> list[Row]:
    """The rows of a table, or those of them that are named.

    Args:
        table: A key of `TABLES`.
        names: Of rows. A name with parameters, such as `local:5`, need not be among the table's own rows, and
            `maskclip+pamr` means all its settings in the table 'pamr'. None for all rows. Names that belong to other
            tables are passed over.

    Raises:
        UsageError: The parameters of a name cannot be read.
    """
    rows = {row.name: row for row in map(make_row, TABLES[table][1])}
    if names is None:
        return list(rows.values())
    chosen = {}
    for name in names:
        same = {key: row for key, row in rows.items() if key.partition(':')[0] == name.partition(':')[0]}
        if same and (':' in name or table != 'pamr'):
            row = make_row(name)
            same = {row.name: row}
        chosen |= same
    return list(chosen.values())


def check_names(tables: Sequence[str], names: Sequence[str]) -> None:
    """Refuse names that no row of the tables has.

    Raises:
        UsageError: With the allowed names and the nearest one.
    """
    known = list(dict.fromkeys(name.partition(':')[0] for table in tables for name in TABLES[table][1]))
    for name in names:
        family = name.partition(':')[0]
        if family not in known:
            raise UsageError(
                f'No row of table {", ".join(tables)} is called {name!r}.{nearest(family, known)} '
                f'There are: {", ".join(known)}.'
            )
        make_row(name)


def make_row(name: str) -> Row:
    """The row of a name such as `local:5`.

    Raises:
        UsageError: Its parameters cannot be read.
    """
    family, colon, text = name.partition(':')
    parameters = inspect.signature(FAMILIES[family]).parameters
    plain = {*_METHODS, *_PEERS}  # whose names take no parameters
    defaults = {key: value.default for key, value in parameters.items() if family not in plain}
    given = {}
    try:
        for word in text.split(',') if colon else []:
            key, _, value = word.rpartition('=')
            key = key or next(iter(defaults), '')
            given[key] = _value(value, defaults[key])
    except (KeyError, ValueError) as error:
        raise UsageError(
            f'The row {name} cannot be made: its parameters are {", ".join(defaults) or "none"}, written as in '
            'random:4, q:gain=2, sharpening:2, local:5, earlier:2 and maskclip+pamr:steps=10,dilations=8-16.'
        ) from error
    changed = {key: value for key, value in {**defaults, **given}.items() if value != defaults[key]}
    words = ','.join(_text(value) if key in _UNNAMED else f'{key}={_text(value)}' for key, value in changed.items())
    # The paper does not say what the rows of a single projection's map sum to: both readings are compared with it.
    return replace(
        FAMILIES[family](**given),
        name=f'{family}:{words}' if words else family,
        paper=family if changed in ({}, {'gain': 2}) else None,
        reading=f'rows sum to {changed.get("gain", 1):g}' if 'gain' in defaults else None,
    )


def _value(text: str, default: Any) -> Any:
    """A parameter of the default's type; numbers of a tuple are joined by hyphens."""
    return tuple(map(int, text.split('-'))) if isinstance(default, tuple) else type(default)(text)


def _text(value: Any) -> str:
    return '-'.join(map(str, value)) if isinstance(value, tuple) else f'{value:g}'
