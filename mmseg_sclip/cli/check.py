"""`tools/check.py` and `mmseg-sclip check`: look at every file of a test dataset before hours are spent on it."""

from __future__ import annotations

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
from ..errors import BadFileError
from ..notes import collecting
from .arguments.check import parse

_WRONG = ('images left out', 'label maps without an image')  # of what is found when files are listed
_FORK = 'fork' if 'fork' in multiprocessing.get_all_start_methods() else 'spawn'


def main(argv: Sequence[str]) -> int:
    """Check the dataset; see `--help`.

    Raises:
        BadFileError: A test would be wrong; the reasons are printed.
        UsageError: A flag is wrong.
        ConfigError: The config is wrong.
        MissingFileError: A folder, the split file or the config is missing.
    """
    args = parse(argv)
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
    """The inspector of each sample; samples of one part of the dataset share one."""
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
