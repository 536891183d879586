"""`tools/check.py` and `mmseg-sclip check`: look at every file of a test dataset before hours are spent on it."""

from __future__ import annotations

import argparse
import multiprocessing
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from mmengine.config import Config
from mmengine.registry import init_default_scope
from rich.console import Console
from rich.progress import track

from ..config import apply_data_flags, load_config
from ..datasets.building import build_dataset, built_parts, list_files
from ..datasets.check_files import check_files
from ..datasets.inspection import Facts, Inspector
from ..datasets.inspection_report import Report
from ..datasets.pipelines import parts_of, use_own_readers
from ..engine.ignored import ignored_in
from ..errors import ArgumentParser, BadFileError, UsageError
from ..notes import collecting
from .flags import add_cfg_options, add_data_flags

_WRONG = ('images left out', 'label maps without an image')  # of what is found when files are listed
_FORK = 'fork' if 'fork' in multiprocessing.get_all_start_methods() else 'spawn'


def build_parser() -> argparse.ArgumentParser:
    """Which dataset, and how many processes read it."""
    parser = ArgumentParser(
        prog='mmseg-sclip check',
        description='Read every label map and every image header of the test dataset of a config as a test would, and '
        'say what is wrong. No weights are needed. The exit code is 1 where a test would be wrong or would stop.',
        epilog='example: mmseg-sclip check sclip_voc21 --data-root /data/VOC2012',
    )
    parser.add_argument('config', help='config file, or the name of a shipped config such as sclip_voc21')
    parser.add_argument(
        '--workers', type=int, metavar='N', help='processes that read files; 0 reads in this one (default: up to 8)'
    )
    add_data_flags(parser, 'look at the first N images of the dataset only')
    add_cfg_options(parser, 'test_dataloader.dataset.ann_file=val.txt')
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Check the dataset; see `--help`.

    Raises:
        BadFileError: A test would be wrong; the reasons are printed.
        UsageError: A flag is wrong.
        ConfigError: The config is wrong.
        MissingFileError: A folder, the split file or the config is missing.
    """
    args = build_parser().parse_intermixed_args(argv)
    if args.workers is not None and args.workers < 0:
        raise UsageError(f'--workers is {args.workers}; it must be at least 0.')
    config = load_config(args.config, args.cfg_options, own_modules=True)
    apply_data_flags(config, args.data_root, args.max_images, args.bands)
    init_default_scope(config.get('default_scope') or 'mmseg')
    with collecting() as listed:
        check_files(config.test_dataloader.dataset)
        use_own_readers(config)
        dataset = build_dataset(config.test_dataloader.dataset, listed=False)
        for part in built_parts(dataset):
            part.requires_files = False  # what is missing is in the report
        list_files(dataset)
    samples = [dataset.get_data_info(index) for index in range(len(dataset))]
    facts = _inspect(samples, _inspectors(config, dataset), args.workers)
    classes = list(dataset.metainfo.get('classes') or ())
    report = Report(samples, facts, classes, ignored_in(config, len(classes)))
    for note in dict.fromkeys(listed):
        report.add(note, wrong=note.kind in _WRONG)
    report.print(type(dataset).__name__)
    if report.wrong:
        raise BadFileError(f'A test of this dataset would be wrong: {", ".join(report.wrong)}. The files stand above.')
    return 0


def _inspectors(config: Config, dataset: Any) -> list[Inspector]:
    """One for each sample, shared by those of one part of the dataset."""
    parts, built = parts_of(config.test_dataloader.dataset), built_parts(dataset)
    found = []
    for part, own in zip(parts, built, strict=True):
        found += [Inspector(part.get('pipeline') or (), part.get('backend_args'))] * len(own)
    return found if len(found) == len(dataset) else found[:1] * len(dataset)  # a wrapper that chooses or repeats


def _inspect(samples: Sequence[Mapping], inspectors: Sequence[Inspector], workers: int | None) -> list[Facts]:
    workers = min(8, os.cpu_count() or 1, 1 + len(samples) // 16) if workers is None else workers
    bar = Console(stderr=True)
    shown = dict(total=len(samples), description='Checking', console=bar, transient=True, disable=not bar.is_terminal)
    jobs = list(zip(inspectors, samples, strict=True))
    if workers == 0:
        return list(track(map(_look, jobs), **shown))
    with ProcessPoolExecutor(workers, multiprocessing.get_context(_FORK)) as pool:
        return list(track(pool.map(_look, jobs, chunksize=8), **shown))


def _look(job: tuple[Inspector, Mapping]) -> Facts:
    inspector, sample = job
    return inspector(sample)
