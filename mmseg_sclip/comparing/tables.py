"""Tables: the numbers of runs by row and column, as Markdown and as comma-separated values, and their files."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from ..files import MARK, refuse_taken, write_atomically
from ..outputs import OutputFolder, check_outputs
from .runs import Run

EMPTY = '–'


class Grid:
    """One metric of runs by row and column; several runs of one cell, such as those of several seeds, are averaged.

    Args:
        runs: Those without a result have no number.
        row: The row of a run, by default its method.
        column: The column of a run, by default its dataset.
        metric: Such as `mIoU`.

    Attributes:
        rows: Each once, in the order of the runs.
        columns: Likewise.
    """

    def __init__(
        self,
        runs: Sequence[Run],
        row: Callable[[Run], Hashable] = lambda run: run.method,
        column: Callable[[Run], Hashable] = lambda run: run.dataset,
        metric: str = 'mIoU',
    ) -> None:
        self.rows = list(dict.fromkeys(map(row, runs)))
        self.columns = list(dict.fromkeys(map(column, runs)))
        self._values: dict[Any, list[float]] = {}
        for run in runs:
            if (value := run.value(metric)) is not None:
                self._values.setdefault((row(run), column(run)), []).append(value)

    def mean(self, row: Hashable, *columns: Hashable) -> float | None:
        """The number of a row in a column, or its mean over several; None where one of them has none."""
        means = [mean(values) for column in columns if (values := self._values.get((row, column)))]
        return mean(means) if len(means) == len(columns) else None

    def gain(self, row: Hashable, other: Hashable, *columns: Hashable) -> float | None:
        """The `mean` of a row minus that of another; None if one of them has no number."""
        ours, theirs = self.mean(row, *columns), self.mean(other, *columns)
        return None if ours is None or theirs is None else ours - theirs

    def cell(self, row: Hashable, *columns: Hashable) -> str:
        """`mean` with two decimals, followed by the smallest and the largest if the column has several values."""
        value = self.mean(row, *columns)
        values = self._values.get((row, columns[0]), []) if len(columns) == 1 else []
        spread = f' ({min(values):.2f}–{max(values):.2f})' if values[1:] else ''
        return EMPTY if value is None else f'{value:.2f}{spread}'


def markdown_table(titles: Sequence[str], rows: Iterable[Sequence[str]], words: int = 1) -> str:
    """A table in Markdown.

    Args:
        titles: Of the columns.
        rows: A cell for each column.
        words: How many columns from the left hold words; the others hold numbers.
    """
    rule = '|---' * words + '|--:' * (len(titles) - words) + '|'
    first, *others = (f'| {" | ".join(cells)} |' for cells in (titles, *rows))
    return '\n'.join([first, rule, *others])


def comma_separated(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table as comma-separated values, and after it our mark."""
    text = io.StringIO()
    csv.writer(text, lineterminator='\n').writerows([titles, *rows])
    return f'{text.getvalue()}# {MARK}'


def check_table_files(folder: Path, names: Iterable[str], what: str = '--out') -> None:
    """Refuse a folder that cannot take the tables, before the work begins.

    Raises:
        OutputError: A file that is not ours has a name of theirs, or nothing can be written there.
    """
    for name in names:
        refuse_taken(folder / name, what)
    check_outputs([OutputFolder(folder, what)], inputs=())


def write_tables(folder: Path, texts: Mapping[str, str], what: str = '--out') -> list[Path]:
    """Write files by their names, each whole or not at all, and return their paths.

    Raises:
        OutputError: The folder cannot be written, or a file that is not ours has the name.
    """
    for name, text in texts.items():
        with write_atomically(folder / name, what) as unfinished:
            unfinished.write_text(f'{text}\n', encoding='utf-8')
    return [folder / name for name in texts]
