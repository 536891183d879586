"""What the table tool writes: results.json, and the tables in Markdown and CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .engine import Outcome, write_atomically
from .order import best_of_search, compare_order
from .paper import REFERENCE, cite, tags
from .runs import config_of
from .tables import BENCHMARKS, TITLES, Row

EMPTY = '–'


@dataclass(frozen=True)
class Entry:
    """A row of a table on a dataset, and what became of it. `seed` is that of painted scenes, else None."""

    table: str
    row: Row
    dataset: str
    seed: int | None
    outcome: Outcome

    @property
    def miou(self) -> float | None:
        """In percent."""
        return None if self.outcome.result is None else self.outcome.result['mIoU']

    def as_dict(self) -> dict[str, Any]:
        """The entry of `results.json`."""
        cited = cite(self.row.paper, self.dataset)
        return dict(
            table=self.table,
            row=self.row.name,
            config=config_of(self.row, self.dataset),
            dataset=self.dataset,
            seed=self.seed,
            images=None if self.outcome.result is None else self.outcome.result['images'],
            mIoU=self.miou,
            paper=None if cited is None else cited.value,
            skipped=self.outcome.reason,
            seconds=self.outcome.seconds,
        )


def write_report(entries: Sequence[Entry], folder: Path) -> list[Path]:
    """Write `results.json`, `tables.md` and `tables.csv`, each whole or not at all.

    Args:
        entries: All that was asked for, skipped rows too.
        folder: Where to.

    Returns:
        The three files.
    """
    texts = {
        'results.json': json.dumps([entry.as_dict() for entry in entries], indent=2) + '\n',
        'tables.md': markdown(entries),
        'tables.csv': comma_separated(entries),
    }
    for name, text in texts.items():
        write_atomically(folder / name, text)
    return [folder / name for name in texts]


def columns(entries: Sequence[Entry]) -> list[str]:
    """The datasets of the entries, and `mean` where all eight benchmarks are among them.

    Beside painted scenes stands the dataset that their order is compared with.
    """
    datasets = list(dict.fromkeys(entry.dataset for entry in entries))
    datasets += [ref for name, ref in REFERENCE.items() if name in datasets and ref not in datasets]
    return [*datasets, 'mean'] if set(BENCHMARKS) <= set(datasets) else datasets


def measured(entries: Sequence[Entry], row: str) -> dict[str, float]:
    """The mIoU of a row by dataset, and their `mean` over the eight benchmarks where all are measured."""
    values = {entry.dataset: entry.miou for entry in entries if entry.row.name == row and entry.miou is not None}
    if set(BENCHMARKS) <= set(values):
        values['mean'] = round(sum(values[name] for name in BENCHMARKS) / len(BENCHMARKS), 2)
    return values


def lines(entries: Sequence[Entry]) -> list[tuple[Row, str, list[str]]]:
    """The lines of one table: a row, what its numbers are ('measured' or 'paper'), one cell a column."""
    names = columns(entries)
    result = []
    for row in {entry.row.name: entry.row for entry in entries}.values():
        values = measured(entries, row.name)
        result.append((row, 'measured', [f'{values[name]:.2f}' if name in values else EMPTY for name in names]))
        cited = [cite(row.paper, name) for name in names]
        if any(cited):
            result.append((row, 'paper', [f'{c.value:.1f} [{c.tag}]' if c else EMPTY for c in cited]))
    return result


def by_table(entries: Sequence[Entry]) -> dict[str, list[Entry]]:
    """The entries of each table."""
    return {table: [e for e in entries if e.table == table] for table in dict.fromkeys(e.table for e in entries)}


def markdown(entries: Sequence[Entry]) -> str:
    """All tables, with what to know about them."""
    parts = [
        'mIoU in percent. Lines called "measured" were measured with this software; lines called "paper" repeat what '
        'the SCLIP paper prints, for CLIP ViT-B/16, with a tag that says where the number was read:',
        '\n'.join(f'- [{tag}] {meaning}' for tag, meaning in tags().items()),
        *(_section(table, part) for table, part in by_table(entries).items()),
    ]
    return '\n\n'.join(parts) + '\n'


def _section(table: str, entries: Sequence[Entry]) -> str:
    names = columns(entries)
    titles = ['mean of eight' if name == 'mean' else name for name in names]
    grid = [['row', 'what', 'numbers', *titles], ['---'] * 3 + ['---:'] * len(names)]
    for row, kind, cells in lines(entries):
        grid.append([*((row.name, row.meaning) if kind == 'measured' else ('', '')), kind, *cells])
    parts = [f'## {TITLES[table]}', '\n'.join(f'| {" | ".join(cells)} |' for cells in grid)]
    parts += [f'{title}\n\n' + '\n'.join(f'- {line}' for line in found) for title, found in remarks(table, entries)]
    return '\n\n'.join(parts)


def remarks(table: str, entries: Sequence[Entry]) -> list[tuple[str, list[str]]]:
    """What stands below a table: titles and their lines."""
    rows = list({entry.row.name: entry.row for entry in entries}.values())
    values = {row.name: measured(entries, row.name) for row in rows}
    order = compare_order(rows, values, columns(entries))
    found = [('Measured on:', _scenes(entries))]
    if table == 'pamr':
        found.append(('Best settings of PAMR:', best_of_search(values, columns(entries))))
    found.append(('Order of the rows:', order or ['the paper has no numbers to compare with']))
    found.append(('Skipped:', _skipped(entries)))
    return [(title, text) for title, text in found if text]


def _scenes(entries: Sequence[Entry]) -> list[str]:
    texts = []
    for entry in entries:
        if entry.outcome.result is not None:
            seed = '' if entry.seed is None else f', scenes of seed {entry.seed}'
            texts.append(f'{entry.dataset}: {entry.outcome.result["images"]} images{seed}')
    return list(dict.fromkeys(texts))


def _skipped(entries: Sequence[Entry]) -> list[str]:
    reasons: dict[str, list[str]] = {}
    for entry in entries:
        if entry.outcome.reason is not None:
            reasons.setdefault(entry.outcome.reason, []).append(f'{entry.row.name} ({entry.dataset})')
    return [f'{", ".join(names)}: {reason}' for reason, names in reasons.items()]


def comma_separated(entries: Sequence[Entry]) -> str:
    """The lines of all tables, with the columns that any of them has; cells without a number are empty."""
    parts = by_table(entries)
    names = list(dict.fromkeys(name for part in parts.values() for name in columns(part)))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator='\n')
    writer.writerow(['table', 'row', 'numbers', *names])
    for table, part in parts.items():
        for row, kind, cells in lines(part):
            found = dict(zip(columns(part), cells, strict=True))
            numbers = [found.get(name, '').partition(' ')[0].replace(EMPTY, '') for name in names]
            writer.writerow([table, row.name, kind, *numbers])
    return text.getvalue()
