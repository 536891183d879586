"""`tools/ablate.py` and `mmseg-sclip ablate`: run the rows of the SCLIP paper's tables."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from ..ablation.engine import Outcome, execute
from ..ablation.report import Entry, by_table, columns, lines, remarks, write_report
from ..ablation.runs import Settings, plan
from ..ablation.tables import DATASETS, TITLES, check_names, select
from .configuring import find_device
from .errors import ArgumentParser, UsageError, describe
from .flags import add_model_flags


def build_parser() -> argparse.ArgumentParser:
    """Which rows, on what, and the flags of tools/test.py that make sense for many runs."""
    parser = ArgumentParser(
        prog='mmseg-sclip ablate',
        description="Run the rows of the SCLIP paper's tables that can run with the data present, and compare "
        'them with the paper. Finished runs are kept: the same command goes on where it was interrupted.',
    )
    parser.add_argument('--table', nargs='+', required=True, choices=tuple(TITLES), help='which tables')
    parser.add_argument('--datasets', nargs='+', default=['demo'], choices=DATASETS, help='default: demo')
    parser.add_argument(
        '--rows',
        nargs='+',
        metavar='ROW',
        help='only these rows, such as sclip or q+k; with parameters: local:5, earlier:2, sharpening:3, random:8, '
        'q:gain=2, maskclip+pamr:steps=10,dilations=8-16 (default: all rows of the tables)',
    )
    parser.add_argument('--demo-seed', type=int, default=0, metavar='N', help="of the demo's scenes (default: 0)")
    parser.add_argument(
        '--demo-count', type=int, metavar='N', help="number of the demo's scenes (default: 400, the config's)"
    )
    parser.add_argument(
        '--out',
        type=Path,
        default=Path('work_dirs/ablate'),
        metavar='DIR',
        help='folder of the tables and of the finished runs (default: work_dirs/ablate)',
    )
    parser.add_argument(
        '--data-root',
        nargs='+',
        default=[],
        metavar='NAME=DIR',
        help="folder of a dataset, in place of its config's data_root, such as voc21=/data/VOC2012",
    )
    add_model_flags(parser, 'model.test_cfg.window_batch=32')
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the rows and write the tables; see `--help`.

    Returns:
        1 where a run failed. Rows that cannot run here are no failure.

    Raises:
        UsageError: The flags name what does not exist.
    """
    args = build_parser().parse_args(argv)
    settings = _settings(args)
    try:
        if args.rows:
            check_names(args.table, args.rows)
        wanted = [
            (table, row, dataset)
            for dataset in dict.fromkeys(args.datasets)
            for table in dict.fromkeys(args.table)
            for row in select(table, args.rows)
        ]
    except ValueError as error:
        raise UsageError(str(error)) from error
    args.out.mkdir(parents=True, exist_ok=True)
    console = Console(file=sys.stdout, highlight=False)
    outcomes = _run(wanted, settings, console)
    entries = [
        Entry(table, row, dataset, settings.demo_seed if dataset == 'demo' else None, outcome)
        for (table, row, dataset), outcome in zip(wanted, outcomes, strict=True)
    ]
    files = write_report(entries, args.out)
    for table, part in by_table(entries).items():
        _print(console, table, part)
    console.print(f'\nThe tables are in {" and ".join(str(path.resolve()) for path in files)}', soft_wrap=True)
    failed = sum(outcome.failed for outcome in outcomes)
    if failed:
        console.print(f'{failed} runs failed; the reasons stand above. The same command tries them again.')
    return 1 if failed else 0


def _settings(args: argparse.Namespace) -> Settings:
    roots = {}
    for pair in args.data_root:
        name, equals, folder = pair.partition('=')
        if not equals or not folder or name not in DATASETS:
            raise UsageError(f'--data-root {pair}: it takes NAME=DIR, with a NAME out of {", ".join(DATASETS)}.')
        roots[name] = folder
    if args.demo_count is not None and args.demo_count < 1:
        raise UsageError(f'--demo-count is {args.demo_count}; it must be at least 1.')
    return Settings(
        out=args.out,
        demo_seed=args.demo_seed,
        demo_count=args.demo_count,
        data_roots=roots,
        model_name=args.model_name,
        pretrained=args.pretrained,
        device=find_device(args.device),
        options=args.cfg_options or {},
    )


def _run(wanted: Sequence[tuple], settings: Settings, console: Console) -> list[Outcome]:
    """Do the runs under a progress bar, with one line for each that ends."""
    names = [f'{dataset}, table {table}: {row.name}' for table, row, dataset in wanted]
    runs = [plan(row, dataset, settings) for _, row, dataset in wanted]
    # Drawn at each run's ends only: a thread that draws would be forked into the loaders' workers.
    with Progress(console=console, auto_refresh=False, transient=True, redirect_stdout=False) as progress:
        bar = progress.add_task('', total=len(runs))

        def before(index: int) -> None:
            progress.update(bar, description=names[index], refresh=True)

        def after(index: int, outcome: Outcome) -> None:
            progress.update(bar, advance=1, refresh=True)
            progress.console.print(f'{names[index]}: {_words(outcome)}', markup=False, soft_wrap=True)

        return execute(runs, settings.out / 'runs', describe, before, after)


def _words(outcome: Outcome) -> str:
    if outcome.result is None:
        return f'{"FAILED" if outcome.failed else "skipped"}: {outcome.reason}'
    return f'{outcome.result["mIoU"]:.2f} mIoU, {outcome.seconds:.1f} s{" (kept)" if outcome.kept else ""}'


def _print(console: Console, table: str, entries: Sequence[Entry]) -> None:
    """A table as `tables.md` has it."""
    shown = Table('row', 'numbers')
    for name in columns(entries):
        shown.add_column('mean of eight' if name == 'mean' else name, justify='right')
    for row, kind, cells in lines(entries):
        shown.add_row(row.name if kind == 'measured' else '', kind, *(cell.replace('[', r'\[') for cell in cells))
    console.print(f'\n{TITLES[table]}')
    console.print(shown)
    for title, found in remarks(table, entries):
        console.print(title)
        for line in found:
            console.print(f'  {line}', markup=False, soft_wrap=True)
