"""The rows of the SCLIP paper's tables: which config makes each, with which options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from ..utils.checks import nearest

BENCHMARKS = (
    'voc21',
    'context60',
    'coco_object',
    'voc20',
    'cityscapes',
    'context59',
    'ade20k',
    'coco_stuff164k',
)
DATASETS = ('demo', *BENCHMARKS, 'coco_stuff10k')
TITLES = {
    '1': 'Table 1: baselines, SCLIP and PAMR',
    '2': 'Table 2: what correlative self-attention projects with',
    '3': 'Table 3: other ways to localise',
    '4': 'Table 4: pre-processing',
    'pamr': 'Search over the settings of PAMR',
}
# The tuned settings lie between a light touch and the visualisation setting of PAMR's family.
STEPS = (2, 5, 10, 20)
DILATIONS = ((1, 2), (8, 16), (1, 2, 4, 8, 12, 24))

_METHODS = {'clip': 'baselines/clip', 'maskclip': 'baselines/maskclip', 'sclip': 'sclip'}
_MEANINGS = {
    'clip': "CLIP's own attention",
    'maskclip': 'identity as the last attention',
    'sclip': 'correlative self-attention',
}
_SINGLE = {
    'identity': 'no projection',
    'random': 'one random matrix',
    'q': 'query projection',
    'k': 'key projection',
}
_ATTENTION = 'model.backbone.decoder.attention'


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes:
        name: As in results, parameters after a colon.
        config: Name of its config, `{dataset}` in place of the dataset.
        meaning: In a few words, for the tables.
        options: Dotted config keys and their values.
        paper: The name of the row in `paper.json`.
        reading: Which reading of an unclear place of the paper it follows; rows of two readings are not compared.
        learned: It needs a projection that is trained first.
        unknown: Why it can run on no dataset.
    """

    name: str
    config: str
    meaning: str
    options: Mapping[str, Any] = field(default_factory=dict)
    paper: str | None = None
    reading: str | None = None
    learned: bool = False
    unknown: str | None = None


def select(table: str, names: Sequence[str] | None = None) -> list[Row]:
    """The rows of a table, or those of them that are named.

    Args:
        table: A key of `TITLES`.
        names: Names of rows; one with parameters, such as `local:5`, need not be among the default rows, and
            `maskclip+pamr` means all its settings in the table 'pamr'. None for the default rows. Names that
            belong to other tables are passed over.

    Raises:
        ValueError: The parameters of a name cannot be read.
    """
    rows = _default_rows(table)
    if names is None:
        return rows
    chosen = []
    for name in names:
        base, _, parameters = name.partition(':')
        exact = [row for row in rows if row.name == name]
        same = [row for row in rows if row.name.partition(':')[0] == base]
        if not exact and same and parameters:
            exact = [_with_parameters(base, parameters)]
        chosen += exact or same
    return [row for i, row in enumerate(chosen) if row.name not in [other.name for other in chosen[:i]]]


def check_names(tables: Sequence[str], names: Sequence[str]) -> None:
    """Refuse names that no row of the tables has.

    Raises:
        ValueError: With the allowed names and the nearest one.
    """
    known = list(dict.fromkeys(row.name.partition(':')[0] for table in tables for row in _default_rows(table)))
    for name in names:
        base, _, parameters = name.partition(':')
        if base not in known:
            raise ValueError(
                f'No row of table {", ".join(tables)} is called {name!r}.{nearest(base, known)} '
                f'There are: {", ".join(known)}.'
            )
        if parameters:
            _with_parameters(base, parameters)


def _default_rows(table: str) -> list[Row]:
    methods = [Row(name, f'{config}_{{dataset}}', _MEANINGS[name], paper=name) for name, config in _METHODS.items()]
    return {
        '1': [*methods, *(_pamr(name) for name in _METHODS)],
        '2': [
            *(_csa(name) for name in _SINGLE),
            _csa('random', count=4),
            # The default and the learned projection have rows that sum to 2, for which the residual weighs less.
            *(_csa(name, gain=2) for name in _SINGLE),
            Row('q+k', 'sclip_{dataset}', 'sum of both, the default', paper='q+k'),
            Row('learned', _ablation('learned'), 'trained on 64 images', paper='learned', learned=True),
        ],
        # The paper's text measures this table by CLIP, MaskCLIP and SCLIP.
        '3': [*methods, _sharpening(2.0), _local(3), _earlier(3)],
        '4': [_mode(number) for number in range(1, 6)],
        'pamr': [*methods, *(_pamr(name, *setting) for name in _METHODS for setting in product(STEPS, DILATIONS))],
    }[table]


def _ablation(name: str) -> str:
    return f'ablations/sclip_{name}_{{dataset}}'


def _csa(name: str, count: int = 1, gain: float = 1) -> Row:
    """One projection, or the mean over several random ones; the map's rows sum to the gain."""
    config, meaning, options, words = name, _SINGLE[name], {}, []
    if count != 1:
        config, meaning, words = 'random_ensemble', f'mean over {count} random matrices', [f'{count}']
        options[f'{_ATTENTION}.projections.0.count'] = count
    if gain != 1:
        meaning, words = f'{meaning}, rows sum to {gain:g}', [*words, f'gain={gain:g}']
        options[f'{_ATTENTION}.gain'] = gain
    if not words:
        return Row(name, _ablation(config), meaning, paper=name, reading='rows sum to 1')
    # The paper does not say to what the rows of a single projection's map sum, so both readings are measured by it.
    paper = name if count == 1 and gain == 2 else None
    return Row(f'{name}:{",".join(words)}', _ablation(config), meaning, options, paper, f'rows sum to {gain:g}')


def _sharpening(temperature: float) -> Row:
    options = {f'{_ATTENTION}.temperature': temperature}
    return _tuned('sharpening', f'{temperature:g}', '2', f"CLIP's logits times {temperature:g}", options)


def _local(window: int) -> Row:
    options = {f'{_ATTENTION}.window': window}
    return _tuned('local', f'{window}', '3', f"CLIP's attention within {window} x {window} patches", options)


def _earlier(block: int) -> Row:
    return _tuned('earlier', f'{block}', '3', f'attention map of block {block}', {f'{_ATTENTION}.block': block})


def _tuned(name: str, value: str, default: str, meaning: str, options: Mapping[str, Any]) -> Row:
    """A row whose parameter stands in its name unless it is the config's own."""
    if value == default:
        return Row(name, _ablation(name), meaning, paper=name)
    return Row(f'{name}:{value}', _ablation(name), meaning, options)


def _mode(number: int) -> Row:
    meaning = {
        1: 'short side 224, window 224/112',
        2: 'short side 336, window 224/112, the default',
        3: 'not known',
        4: 'short side 448, window 224/112',
        5: 'short side 448, window 448/224',
    }
    unknown = 'its setting is in none of the sources that we could read' if number == 3 else None
    name = f'mode{number}'
    return Row(name, _ablation(name), meaning[number], paper=name, unknown=unknown)


def _pamr(method: str, steps: int | None = None, dilations: tuple[int, ...] = ()) -> Row:
    config = f'baselines/{method}_pamr_{{dataset}}'
    if steps is None:
        return Row(f'{method}+pamr', config, f'{_MEANINGS[method]}, PAMR', paper=f'{method}+pamr')
    words = '-'.join(map(str, dilations))
    return Row(
        f'{method}+pamr:steps={steps},dilations={words}',
        config,
        f'{steps} steps, dilations {words}',
        {'model.test_cfg.pamr.steps': steps, 'model.test_cfg.pamr.dilations': dilations},
        paper=f'{method}+pamr' if (steps, dilations) == (10, (8, 16)) else None,
    )


def _with_parameters(base: str, text: str) -> Row:
    """A row out of its name's two halves, such as `local` and `5`."""
    try:
        if base.endswith('+pamr'):
            given = _pairs(text.split(','), 'steps', 'dilations')
            dilations = tuple(int(word) for word in given.get('dilations', '8-16').split('-'))
            return _pamr(base.removesuffix('+pamr'), int(given.get('steps', 10)), dilations)
        if base in _SINGLE:
            words = text.split(',')
            count = int(words.pop(0)) if base == 'random' and '=' not in words[0] else 1
            return _csa(base, count, float(_pairs(words, 'gain').get('gain', 1)))
        if base == 'sharpening':
            return _sharpening(float(text))
        return {'local': _local, 'earlier': _earlier}[base](int(text))
    except (ValueError, KeyError) as error:
        raise ValueError(
            f'The row {base}:{text} cannot be made ({error}). Parameters are written as in random:4, q:gain=2, '
            'sharpening:2, local:5, earlier:2 and maskclip+pamr:steps=10,dilations=8-16; other rows have none.'
        ) from error


def _pairs(words: Sequence[str], *allowed: str) -> dict[str, str]:
    pairs = dict(word.split('=') for word in words)
    for key in pairs:
        if key not in allowed:
            raise ValueError(f'unknown: {key}')
    return pairs
