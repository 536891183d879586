"""The table of several methods on one dataset: `methods.md` and `methods.json`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..engine.result import FILE
from ..files import MARK
from .runs import Run
from .tables import Grid, markdown_table, write_tables

FILES = ('methods.md', 'methods.json')
METRICS = ('mIoU', 'aAcc', 'mAcc')
PROTOCOLS = {'own': "each method's own protocol", 'common': 'the protocol of SCLIP for every method'}


def method_table(runs: Sequence[Run]) -> str:
    """Metrics by method and protocol, with notes, as Markdown.

    Args:
        runs: Finished ones on one dataset.
    """
    seeds = dict.fromkeys(str(run.seed) for run in runs if run.seed is not None)
    scenes = f', scenes of seeds {", ".join(seeds)}' if seeds else ''
    note = ' With several seeds, a value is their mean, and the smallest to the largest.' if seeds else ''
    grids = {metric: Grid(runs, column=lambda run: run.protocol, metric=metric) for metric in METRICS}
    first = grids[METRICS[0]]
    columns = [(protocol, metric) for protocol in first.columns for metric in METRICS]
    rows = [[method, *(grids[metric].cell(method, name) for name, metric in columns)] for method in first.rows]
    return '\n'.join(
        [
            f'mIoU, aAcc and mAcc in percent. {runs[0].dataset}, {runs[0].result["images"]} images{scenes}.{note}',
            '',
            *(f'- {protocol}: {PROTOCOLS[protocol]}' for protocol in first.columns),
            '',
            markdown_table(['method', *(f'{metric} {protocol}' for protocol, metric in columns)], rows),
            '',
            *_passes(runs),
        ]
    )


def write_method_table(runs: Sequence[Run], folder: Path) -> list[Path]:
    """Write `FILES` into a folder that has the runs' own folders, and return their paths.

    Raises:
        OutputError: The folder cannot be written, or a file that is not ours has the name.
    """
    found = dict(methods=[_entry(run, folder) for run in runs], software=MARK)
    texts = (f'{method_table(runs)}\n\n<!-- {MARK} -->', json.dumps(found, indent=1))
    return write_tables(folder, dict(zip(FILES, texts, strict=True)))


def _entry(run: Run, folder: Path) -> dict[str, Any]:
    """The entry of a run in `methods.json`."""
    return dict(
        method=run.method,
        protocol=run.protocol,
        seed=run.seed,
        images=run.result['images'],
        **{metric: run.value(metric) for metric in METRICS},
        **{'pass': run.number},
        seconds_of_the_pass=run.result['seconds'],
        result=str((run.folder / FILE).relative_to(folder)),
    )


def _passes(runs: Sequence[Run]) -> list[str]:
    """One line per pass: what ran in it, and how long."""
    lines = []
    for number in dict.fromkeys(run.number for run in runs):
        members = [run for run in runs if run.number == number]
        name = members[0].method if len(members) == 1 else f'{len(members)} methods'
        lines.append(f'- pass {number}: {name}, {members[-1].result["seconds"]:.1f} s')
    return lines
