"""What `ablate` writes: results.json, and the tables in Markdown and CSV."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path

from ..comparing import tables as general
from ..comparing.tables import EMPTY, Grid, markdown_table, write_tables
from ..files import MARK
from .paper import REFERENCE, TAGS, cite
from .rows import BENCHMARKS, TABLES, Row
from .running import Entry

FILES = ('results.json', 'tables.md', 'tables.csv')
_MEAN = 'mean'  # the column of the mean over the eight benchmarks


class TableOfRows:
    """The entries of one table.

    Args:
        title: Above the table.
        entries: All rows on all datasets, skipped ones too.

    Attributes:
        rows: Each once.
        columns: The datasets; for painted scenes also the dataset that their order is compared with, and `mean` if all
            eight benchmarks are among them.
        grid: mIoU by the name of a row and the dataset.
    """

    def __init__(self, title: str, entries: Sequence[Entry]) -> None:
        self.title, self.entries, self.grid = title, entries, Grid(entries)
        self.rows = list({entry.method: entry.row for entry in entries}.values())
        datasets = dict.fromkeys(self.grid.columns)
        datasets |= {reference: None for name, reference in REFERENCE.items() if name in datasets}
        self.columns = [*datasets, *([_MEAN] if datasets.keys() >= set(BENCHMARKS) else [])]

    def lines(self) -> Iterator[tuple[Row, str, list[str]]]:
        """Each row, the kind of its numbers ('measured' or 'paper'), and one cell per column."""
        for row in self.rows:
            yield row, 'measured', [self.grid.cell(row.name, *_datasets(name)) for name in self.columns]
            cited = [cite(row.paper, name) for name in self.columns]
            if any(cited):
                yield row, 'paper', [str(number or EMPTY) for number in cited]

    def markdown(self) -> str:
        """The table, and notes below it."""
        titles = ['mean of eight' if name == _MEAN else name for name in self.columns]
        rows = [
            [*((row.name, row.meaning) if kind == 'measured' else ('', '')), kind, *cells]
            for row, kind, cells in self.lines()
        ]
        parts = [f'## {self.title}', markdown_table(['row', 'what', 'numbers', *titles], rows, words=3)]
        for title, lines in (
            ('Measured on', self._images()),
            ('Best settings of PAMR', self._best_of_search()),
            ('Order of the rows', self._order() or ['the paper has no numbers to compare with']),
            ('Skipped', self._skipped()),
        ):
            if lines:
                parts.append(f'{title}:\n\n' + '\n'.join(f'- {line}' for line in lines))
        return '\n\n'.join(parts)

    def _images(self) -> list[str]:
        seeds: dict[str, dict[str, None]] = {}
        for entry in self.entries:
            if entry.result is not None:
                found = seeds.setdefault(f'{entry.dataset}: {entry.result["images"]} images', {})
                if entry.seed is not None:
                    found[str(entry.seed)] = None
        lines = []
        for line, found in seeds.items():
            many = len(found) > 1
            scenes = f', scenes of seed{"s" if many else ""} {", ".join(found)}' if found else ''
            spread = '; a value is the mean over the seeds, and the smallest to the largest' if many else ''
            lines.append(line + scenes + spread)
        return lines

    def _skipped(self) -> list[str]:
        reasons: dict[str, dict[str, None]] = {}
        for entry in self.entries:
            if entry.reason is not None:
                reasons.setdefault(entry.reason, {})[f'{entry.row.name} ({entry.dataset})'] = None
        return [f'{", ".join(names)}: {reason}' for reason, names in reasons.items()]

    def _order(self) -> list[str]:
        """How many pairs of rows have the order of the paper on each dataset, and a sentence per pair that has not."""
        sentences = []
        for dataset in self.columns:
            on = f' on {REFERENCE[dataset]}' if dataset in REFERENCE else ''
            against = [self._against(dataset, *pair) for pair in combinations(self.rows, 2)]
            against = [sentence for sentence in against if sentence is not None]
            agree = sum(not sentence for sentence in against)
            if against:
                pairs = f'{agree} of {len(against)} pairs of rows stand in the order of the paper{on}'
                sentences += [
                    f'{dataset}: {pairs}',
                    *(f'{dataset}: {sentence}{on}' for sentence in against if sentence),
                ]
        return sentences

    def _against(self, dataset: str, *pair: Row) -> str | None:
        """How two rows contradict the paper; empty where they agree, None where they cannot be compared."""
        cited = [cite(row.paper, REFERENCE.get(dataset, dataset)) for row in pair]
        values = [self.grid.mean(row.name, *_datasets(dataset)) for row in pair]
        readings = {row.reading for row in pair} - {None}
        if None in values or None in cited or cited[0].value == cited[1].value or len(readings) > 1:
            return None
        high, low = (0, 1) if cited[0].value > cited[1].value else (1, 0)
        here = [round(value, 2) for value in values]
        if here[high] > here[low]:
            return ''
        sign = '=' if here[high] == here[low] else '<'
        return (
            f'{pair[high].name} {here[high]:.2f} {sign} {pair[low].name} {here[low]:.2f}, but the paper has '
            f'{cited[high]} > {cited[low]}'
        )

    def _best_of_search(self) -> list[str]:
        """If several settings of PAMR were tried: the best one, and its gain over the method without PAMR."""
        sentences = []
        meanings = {row.name: row.meaning for row in self.rows}
        for column in self.columns:
            datasets = _datasets(column)
            for method in dict.fromkeys(row.method for row in self.rows):
                tried = [name for name in meanings if name.startswith(f'{method}+pamr')]
                scores = {name: value for name in tried if (value := self.grid.mean(name, *datasets)) is not None}
                if len(tried) > 1 and scores:
                    best = max(scores, key=scores.__getitem__)
                    gain, plain = self.grid.gain(best, method, *datasets), self.grid.mean(method, *datasets)
                    than = '' if gain is None else f', {gain:+.2f} against {plain:.2f} without PAMR'
                    sentences.append(f'{column}: {scores[best]:.2f} with {meanings[best]}{than}')
        return sentences


def tables(entries: Sequence[Entry]) -> list[TableOfRows]:
    """The entries by table."""
    names = dict.fromkeys(entry.table for entry in entries)
    return [TableOfRows(TABLES[name][0], [entry for entry in entries if entry.table == name]) for name in names]


def markdown(entries: Sequence[Entry]) -> str:
    """All tables with their notes."""
    about = (
        'mIoU in percent. Lines called "measured" were measured with this software; lines called "paper" repeat what '
        'was published, for CLIP ViT-B/16 by the SCLIP paper and for the networks of peers in its Table 1, with a tag '
        'that says where the number was read:'
    )
    meanings = '\n'.join(f'- [{tag}] {meaning}' for tag, meaning in TAGS.items())
    return '\n\n'.join([about, meanings, *(table.markdown() for table in tables(entries)), f'<!-- {MARK} -->'])


def comma_separated(entries: Sequence[Entry]) -> str:
    """The lines of all tables, with the columns that any of them has; cells without a number are empty."""
    found = tables(entries)
    columns = list(dict.fromkeys(name for table in found for name in table.columns))
    rows = []
    for table in found:
        for row, kind, cells in table.lines():
            cell = dict(zip(table.columns, cells, strict=True))
            numbers = [cell.get(column, '').partition(' ')[0].replace(EMPTY, '') for column in columns]
            rows.append([table.entries[0].table, row.name, kind, *numbers])
    return general.comma_separated(['table', 'row', 'numbers', *columns], rows)


def write_report(entries: Sequence[Entry], folder: Path) -> list[Path]:
    """Write `FILES`, each whole or not at all, and return their paths.

    Raises:
        OutputError: The folder cannot be written.
    """
    texts = (json.dumps([entry.as_dict() for entry in entries], indent=2), markdown(entries), comma_separated(entries))
    return write_tables(folder, dict(zip(FILES, texts, strict=True)), 'the tables')


def _datasets(column: str) -> Sequence[str]:
    """The datasets whose mean a column has."""
    return BENCHMARKS if column == _MEAN else [column]
