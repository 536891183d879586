"""How rows are run on datasets: from their configs to a `result.json` each, which is kept under its fingerprint."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope

from ..config import load_config
from ..datasets.check_files import check_files
from ..engine.evaluation import evaluate_methods
from ..engine.fingerprint import TRAINING, digest, fingerprint
from ..engine.learning import ProjectionCheckpointHook, train_projection
from ..engine.preparing import passes
from ..engine.result import FILE, read_result
from ..engine.runner import isolated
from ..errors import MissingFileError, OutputError, UserError, describe
from ..files import MARK
from ..paths import config_path
from .paper import cite
from .rows import Row


class Skipped(UserError):
    """A row makes no sense on a dataset, or has no number there."""


@dataclass
class Entry:
    """A row of a table on a dataset, and what became of it.

    Attributes:
        table: Its key in `TABLES`.
        row: The row.
        dataset: Its name.
        seed: Of the demo's scenes, None for other datasets.
        result: See `evaluate`; None where there is none.
        folder: Where its `result.json` and its log are.
        kept: The result was there before.
        reason: Why there is no result.
        failed: The reason is an error, and not missing data, weights or configs.
    """

    table: str
    row: Row
    dataset: str
    seed: int | None = None
    result: dict[str, Any] | None = None
    folder: Path | None = None
    kept: bool = False
    reason: str | None = None
    failed: bool = False

    def as_dict(self) -> dict[str, Any]:
        """The entry of `results.json`."""
        cited, result, side = cite(self.row.paper, self.dataset), self.result or {}, self.row.short_side
        return dict(
            table=self.table,
            row=self.row.name,
            config=f'{self.row.method}_{self.dataset}',
            dataset=self.dataset,
            seed=self.seed,
            images=result.get('images'),
            mIoU=round(result['metrics']['mIoU'], 2) if result else None,
            paper=None if cited is None else cited.value,
            skipped=self.reason,
            seconds=result.get('seconds'),
            options={**self.row.options, **({} if side is None else {'short_side': side})},
            result=None if self.folder is None else str(self.folder / FILE),
            software=MARK,
        )


def run(
    entries: Sequence[Entry],
    out: Path,
    device: torch.device | None,
    options: dict[str, Any],
    change: Callable[[Config, str], None],
) -> Iterator[Entry]:
    """Run rows, or take their results where those of the same fingerprint are there; MMEngine's lines go to logs.

    Rows that share their images are tested in one pass, and then have its `seconds`. Where a pass fails, each of its
    rows is tested alone.

    Args:
        entries: What became of them is written there.
        out: Folder of the results and of learned projections.
        device: None for a GPU where there is one.
        options: As `--cfg-options`, on top of the rows' own.
        change: Called with each config and the dataset's name.

    Yields:
        Each entry when it is finished.

    Raises:
        OutputError: The folder of the results cannot be written.
    """
    configs: dict[Path, Config] = {}  # by their folders: tables have rows in common
    waiting: dict[Path, list[Entry]] = {}
    for entry in entries:
        with _told(entry):
            config = _prepare(entry, out, device, options, change)
        if entry.reason is None and entry.result is None:
            configs[entry.folder] = config
            waiting.setdefault(entry.folder, []).append(entry)
        else:
            yield entry
    folders = list(configs)
    for group in passes(list(configs.values())):
        members = [folders[index] for index in group]
        results = [None] * len(members)
        try:
            if len(members) > 1:
                results = _test([configs[folder] for folder in members], device)
        except OutputError:
            raise
        except Exception:  # whatever it is, it may be the fault of one row
            pass
        for folder, result in zip(members, results, strict=True):
            first, *others = waiting[folder]
            with _told(first):
                first.result = _with_number(_test([configs[folder]], device)[0] if result is None else result)
            yield first
            for entry in others:
                entry.result, entry.reason, entry.failed = first.result, first.reason, first.failed
                entry.kept = first.result is not None
                yield entry


@contextmanager
def _told(entry: Entry) -> Iterator[None]:
    """Write into the entry why there is no result, so that the other rows do not suffer."""
    try:
        yield
    except (MissingFileError, Skipped) as error:
        entry.reason = describe(error).replace('--data-root DIR', f'--data-root {entry.dataset}=DIR')
    except OutputError:
        raise
    except Exception as error:  # whatever it is
        entry.reason, entry.failed = describe(error), True


def _prepare(
    entry: Entry,
    out: Path,
    device: torch.device | None,
    options: dict[str, Any],
    change: Callable[[Config, str], None],
) -> Config:
    """The config of a row, in a folder of its fingerprint; a result that is there is written into the entry."""
    with isolated(), redirect_stdout(io.StringIO()):
        init_default_scope('mmseg')
        config = configure(entry.row, entry.dataset, options)
        change(config, entry.dataset)
        if config.get('train_dataloader') is not None:
            config.load_from = str(_train(config, entry.dataset, out, device))
        if entry.seed is not None:  # behind the training: one projection is good for all scenes that are measured
            config.test_dataloader.dataset.seed = entry.seed
        check_files(config.test_dataloader.dataset)
        expected = digest(fingerprint(config, device))
    entry.folder = out / 'runs' / f'{entry.dataset}-{expected[:16]}'
    config.work_dir, config.experiment_name = str(entry.folder), entry.folder.name
    result = kept_result(entry.folder, expected)
    if result is not None:
        entry.result, entry.kept = _with_number(result), True
    return config


def kept_result(folder: Path | str, expected: str) -> dict[str, Any] | None:
    """The result in a work folder where it has the expected fingerprint; None where it has not, or there is none."""
    result = read_result(folder)
    return result if result is not None and result.get('fingerprint') == expected else None


def _with_number(result: dict[str, Any]) -> dict[str, Any]:
    """The result, where it has an mIoU."""
    if result['metrics'].get('mIoU') is None:
        raise Skipped('There is no mIoU: nothing was counted, or all ground truth is ignored.')
    return result


def _test(configs: Sequence[Config], device: torch.device | None) -> list[dict[str, Any]]:
    unfinished = any(Path(config.work_dir, 'journal').is_dir() for config in configs)
    with isolated(), redirect_stdout(io.StringIO()):
        init_default_scope('mmseg')
        return evaluate_methods(configs, device, resume=unfinished)


def configure(row: Row, dataset: str, options: dict[str, Any]) -> Config:
    """The config of a row, with more options on top of its own.

    Raises:
        MissingFileError: There is no such config.
        Skipped: The row changes the size of images, and those of the dataset are not resized.
    """
    path = config_path(f'{row.method}_{dataset}')
    config = load_config(str(path), copy.deepcopy({**row.options, **options}))  # merging changes them
    if row.short_side is not None:
        steps = [step for step in config.test_dataloader.dataset.pipeline if step['type'] == 'Resize']
        if not steps:
            raise Skipped('The images of this dataset are not resized, so there is nothing to vary.')
        steps[0].scale = (steps[0].scale[0], row.short_side)
    return config


def _train(config: Config, dataset: str, out: Path, device: torch.device | None) -> Path:
    """The checkpoint of a learned projection; trained where it is not there, on from where a training stopped."""
    check_files(config.train_dataloader.dataset, 'train_dataloader')
    expected = digest(fingerprint(config, device, sections=TRAINING))
    folder = out / 'learned' / f'{dataset}-{expected[:16]}'
    checkpoint = folder / ProjectionCheckpointHook.FINAL
    return checkpoint if checkpoint.is_file() else train_projection(config, folder, device=device, resume=True)
