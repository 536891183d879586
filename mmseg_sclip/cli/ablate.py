"""`tools/ablate.py` and `mmseg-sclip ablate`: run the rows of the SCLIP paper's tables."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from mmengine.config import Config
from rich.console import Console
from rich.markdown import Markdown
from rich.progress import Progress

from ..ablation.report import FILES, tables, write_report
from ..ablation.rows import DATASETS, select
from ..ablation.running import Entry, configure, run
from ..comparing.tables import check_table_files
from ..config import find_device
from ..errors import UsageError, UserError
from ..model_flags import apply_model_flags_to_all, apply_where_they_fit, with_clip
from ..options import refuse_overwritten
from .arguments.ablate import parse


def main(argv: Sequence[str]) -> int:
    """Run the rows and write the tables; see `--help`.

    Returns:
        1 where a row failed. Rows that cannot run here do not count as failed.

    Raises:
        UsageError: The flags name what does not exist.
        OutputError: The folder of the tables cannot be written, or holds files of the same names that are not ours.
    """
    args = parse(argv)
    own = 'each row has a folder of its fingerprint in --out.'
    refuse_overwritten(args.cfg_options, {'work_dir': own, 'experiment_name': own})
    out, device, roots = Path(args.out), find_device(args.device), _data_roots(args.data_root)
    check_table_files(out, FILES)
    entries = [
        Entry.of(table, row, dataset, seed=seed, asked=args.rows is not None)
        for dataset in dict.fromkeys(args.datasets)
        for table in dict.fromkeys(args.table)
        for row in select(table, args.rows)
        for seed in (dict.fromkeys(args.demo_seed) if dataset == 'demo' else [None])
    ]

    weights = _check_flags(entries, args)

    def change(config: Config, dataset: str) -> None:
        apply_where_they_fit(config, args.model_name, weights)
        if dataset == 'demo' and args.demo_count is not None:
            config.test_dataloader.dataset.count = args.demo_count
        # The folder holds the scenes of the test; the projection is trained on other scenes.
        training = None if dataset == 'demo' else config.get('train_dataloader')
        for loader in (training, config.test_dataloader) if dataset in roots else ():
            if loader is not None:
                loader.dataset.data_root = roots[dataset]

    console = Console(file=sys.stdout, highlight=False, markup=False)
    # Drawn only before and after each row: a drawing thread would be forked into the loaders' workers.
    with Progress(console=console, auto_refresh=False, transient=True, redirect_stdout=False) as progress:
        bar = progress.add_task('Rows that share their images are tested in one pass', total=len(entries))
        progress.refresh()
        for entry in run(entries, out, device, args.cfg_options or {}, change):
            progress.update(bar, advance=1, refresh=True)
            scenes = f' (seed {entry.seed})' if len(args.demo_seed) > 1 and entry.seed is not None else ''
            title = f'{entry.dataset}{scenes}, table {entry.table}: {entry.row.name}'
            console.print(f'{title}: {_words(entry)}', soft_wrap=True)
    files = write_report(entries, out)
    for table in tables(entries):
        console.print(Markdown(table.markdown()))
    console.print(f'\nThe tables are in {" and ".join(str(path.resolve()) for path in files)}', soft_wrap=True)
    failed = sum(entry.failed for entry in entries)
    if failed:
        console.print(f'{failed} rows failed; the reasons stand above. The same command tries them again.')
    return 1 if failed else 0


def _check_flags(entries: Sequence[Entry], args: argparse.Namespace) -> dict[str, str]:
    """Refuse flags of the model that fit no row, and give the files of weights by name."""
    rows = {(entry.row.name, entry.dataset): entry for entry in entries}
    configs = []
    for (name, dataset), entry in rows.items() if args.model_name or args.pretrained or args.weights else ():
        with suppress(UserError):  # the row itself tells
            configs.append((name, configure(entry.row, dataset, args.cfg_options or {})))
    if configs:
        apply_model_flags_to_all(configs, args.model_name, args.pretrained, args.weights)
    return with_clip(args.pretrained, args.weights)


def _data_roots(pairs: Sequence[str]) -> dict[str, str]:
    roots = {}
    for pair in pairs:
        name, _, folder = pair.partition('=')
        if not folder or name not in DATASETS:
            raise UsageError(f'--data-root {pair}: it takes NAME=DIR, with a NAME out of {", ".join(DATASETS)}.')
        roots[name] = os.path.expanduser(folder)
    return roots


def _words(entry: Entry) -> str:
    if entry.result is None:
        return f'{"FAILED" if entry.failed else "skipped"}: {entry.reason}'
    miou, seconds = entry.result['metrics']['mIoU'], entry.result['seconds']
    words = f'{miou:.2f} mIoU, {seconds:.1f} s{" (kept)" if entry.kept else ""}'
    return ' '.join([words, *entry.result.get('unwritten', ())])
