"""The list of weights that configs need: configs of equal needs together, and each file once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mmengine.config import Config

from .models.needed import needed_weights
from .models.pretrained import Pretrained, weights_root
from .paths import method_and_dataset

DEMO = 'demo'


@dataclass
class Need:
    """Configs that need the same weights.

    Attributes:
        configs: Their names.
        weights: See `needed_weights`, and the checkpoint of `load_from`.
    """

    configs: list[str]
    weights: dict[str, Pretrained]


class Checkpoint(Pretrained):
    """What a config's `load_from` names."""

    @property
    def flag(self) -> str:
        """`test` takes it as an argument."""
        return 'CHECKPOINT in `mmseg-sclip test CONFIG CHECKPOINT`'


def group(configs: Sequence[tuple[str, Config]]) -> list[Need]:
    """Configs with their names, grouped by equal needs; both in the order of the configs.

    Raises:
        ConfigError: A config is wrong.
    """
    needs: list[Need] = []
    for name, config in configs:
        weights = needed_weights(config.model)
        if checkpoint := config.get('load_from'):
            weights['checkpoint'] = Checkpoint(
                what=f'the checkpoint {checkpoint}', setting='load_from', name='checkpoint', given=str(checkpoint)
            )
        own = next((need for need in needs if need.weights == weights), None)
        if own is None:
            needs.append(Need([name], weights))
        else:
            own.configs.append(name)
    return needs


def files_of(needs: Sequence[Need]) -> list[Pretrained]:
    """Each file once, whatever it is called."""
    files: list[Pretrained] = []
    for file in (file for need in needs for file in need.weights.values()):
        if all((file.what, file.given) != (own.what, own.given) for own in files):
            files.append(file)
    return files


def entry_of(file: Pretrained) -> dict[str, Any]:
    """What is known of a file, as JSON types.

    Returns:
        `name` and `setting` of what names it, and the `flag`; `what` it is, `files` (names of the published one),
        `repository` of the hub, `published`, `licence`, `size_mb` (about), `state` ('missing', or where it lies) and
        its `path`; where it is missing `copy` (file names) and `to` (the folder).
    """
    place, given = file.locate(), file.given is not None
    entry = dict(
        name=file.name,
        what=file.what,
        state='missing' if place is None else place.kind,
        path=None if place is None else str(place.path),
        files=[] if given else list(dict.fromkeys([*file.names, *file.hub_names])),
        given=file.given,
        repository=file.repository,
        published=file.published or None,
        licence=file.licence or None,
        size_mb=file.size,
        setting=file.place,
        flag=file.flag,
    )
    if place is None and not given:
        copied, folder = file.copy_to()
        entry |= dict(copy=copied, to=str(folder))
    return entry


def report(needs: Sequence[Need], files: Sequence[Pretrained]) -> str:
    """The list as text: what configs need, then each file."""
    lines = []
    for need in needs:
        lines.append(_title(need.configs))
        for name, file in need.weights.items():
            place = file.locate()
            lines.append(f'    {name}: {file.what} ({"MISSING" if place is None else place.kind})')
        if not need.weights:
            lines.append('    no files')
    lines += ['', f'The folder of weights is {weights_root()}']
    for file in files:
        lines += ['', *_details(file)]
    return '\n'.join(lines)


def _details(file: Pretrained) -> list[str]:
    entry = entry_of(file)
    if entry['state'] == 'shipped':
        return [f'{file.what}: ships with the package']
    size = '' if file.size is None else f', about {file.size} MB'
    rows = dict(
        file=' or '.join(entry['files']) + size if entry['files'] else '',
        hub=file.repository or '',
        published=file.published,
        licence=file.licence or ('' if file.given else 'not known'),
        path=entry['path'] or '',
        setting=f'{file.place}, {file.flag}',
        missing=_remedy(file, entry) if entry['path'] is None else '',
    )
    head = f'{file.what}: {"MISSING" if entry["path"] is None else entry["state"]}'
    return [head, *(f'    {key:<10} {value}' for key, value in rows.items() if value)]


def _remedy(file: Pretrained, entry: dict[str, Any]) -> str:
    return f'copy {entry["copy"]} into {entry["to"]}' if 'to' in entry else file.remedy()


def _title(configs: Sequence[str]) -> str:
    """The names of configs, those of one method or of the demo together."""
    if len(configs) < 3:
        return ', '.join(configs)
    datasets: dict[str, list[str]] = {}
    for name in configs:
        method, dataset = method_and_dataset(name)
        datasets.setdefault(method, []).append(dataset)
    demos = [method for method, own in datasets.items() if own == [DEMO]]
    words = [method + (' (demo too)' if DEMO in own else '') for method, own in datasets.items() if method not in demos]
    if demos:
        words.append(f'the demo of {", ".join(demos) if len(demos) < 4 else f"{len(demos)} methods"}')
    return ', '.join(words)
