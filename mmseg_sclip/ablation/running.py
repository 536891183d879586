"""How rows are run on datasets: from configs to one `result.json` per row, which is kept under its fingerprint."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope

from ..comparing.runs import Run, evaluate_pass, kept_result
from ..config import load_config
from ..datasets.check_files import check_files
from ..engine.evaluation import JOURNAL
from ..engine.fingerprint import TRAINING, digest, fingerprint
from ..engine.learning import ProjectionCheckpointHook, train_projection
from ..engine.preparing import check_data_and_weights
from ..engine.result import FILE
from ..engine.runner import isolated
from ..engine.sharing import passes
from ..errors import MissingFileError, OutputError, UserError, describe
from ..files import MARK
from ..paths import config_path
from .paper import cite
from .rows import Row

Change = Callable[[Config, str], None]  # called with each config and the name of its dataset


class Skipped(UserError):
    """A row cannot be run on a dataset, or has no number there."""


@dataclass(kw_only=True)
class Entry(Run):
    """A row of a table on a dataset.

    Attributes:
        table: Its key in `TABLES`.
        row: The row.
        asked: Whether the user has named it.
    """

    table: str
    row: Row
    asked: bool = False

    @classmethod
    def of(cls, table: str, row: Row, dataset: str, **known: Any) -> Entry:
        """An entry that is called as its row; `known` are attributes of a `Run`."""
        return cls(table=table, row=row, method=row.name, dataset=dataset, **known)

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
    entries: Sequence[Entry], out: Path, device: torch.device | None, options: Mapping[str, Any], change: Change
) -> Iterator[Entry]:
    """Run rows, or take results that exist with the same fingerprint; MMEngine's lines go to logs.

    Rows that share their images are tested in one pass and have its `seconds`. If a pass fails, each of its rows is
    tested alone.

    Args:
        entries: Their results are filled in.
        out: Folder of the results and of learned projections.
        device: None for a GPU where there is one.
        options: As `--cfg-options`, on top of the rows' own.
        change: Is applied to each config.

    Yields:
        Each entry when it is finished.

    Raises:
        OutputError: The folder of the results cannot be written.
    """
    waiting: dict[Path, list[Entry]] = {}  # by folder, since tables have rows in common
    for entry in entries:
        with _told(entry):
            _prepare(entry, out, device, options, change)
        if entry.reason is None and entry.result is None:
            waiting.setdefault(entry.folder, []).append(entry)
        else:
            yield entry
    firsts = [same[0] for same in waiting.values()]
    for group in passes([entry.config for entry in firsts]):
        members = [firsts[index] for index in group]
        if len(members) > 1:
            try:
                _test(members, device)
            except OutputError:
                raise
            except Exception:  # one row may be the cause
                pass
        for first in members:
            with _told(first):
                if first.result is None:
                    _test([first], device)
                _require_number(first)
            for entry in waiting[first.folder]:
                if entry is not first:
                    entry.result, entry.reason, entry.failed = first.result, first.reason, first.failed
                    entry.kept = first.result is not None
                yield entry


@contextmanager
def _told(entry: Entry) -> Iterator[None]:
    """Write into the entry why it has no result, so that the other rows go on."""
    try:
        yield
    except (MissingFileError, Skipped) as error:
        entry.reason = describe(error).replace('--data-root DIR', f'--data-root {entry.dataset}=DIR')
    except OutputError:
        raise
    except Exception as error:  # whatever it is
        entry.reason, entry.failed = describe(error), True


def _prepare(entry: Entry, out: Path, device: torch.device | None, options: Mapping[str, Any], change: Change) -> None:
    """Give an entry its config, in a folder of its fingerprint, and the result that is there already."""
    with isolated(), redirect_stdout(io.StringIO()):
        init_default_scope('mmseg')
        if not entry.asked:
            _refuse_stand_ins(entry)
        config = configure(entry.row, entry.dataset, options)
        change(config, entry.dataset)
        if config.get('train_dataloader') is not None:
            config.load_from = str(_train(config, entry.dataset, out, device))
        if entry.seed is not None:  # after the training, which all measured scenes share
            config.test_dataloader.dataset.seed = entry.seed
        check_data_and_weights(config)
        expected = digest(fingerprint(config, device))
    config.experiment_name = f'{entry.dataset}-{expected[:16]}'
    config.work_dir = str(out / 'runs' / config.experiment_name)
    entry.config, entry.result = config, kept_result(config.work_dir, expected)
    if entry.result is not None:
        entry.kept = True
        _require_number(entry)


def _refuse_stand_ins(entry: Entry) -> None:
    """Leave out a peer on the demo, where its number says nothing of it."""
    if entry.row.peer and entry.dataset == 'demo':
        raise Skipped(
            'Nobody has trained the networks of this row for painted scenes: on the demo random or other ones stand '
            'in. Name it in --rows to run it all the same.'
        )


def _require_number(entry: Entry) -> None:
    """Drop a result without mIoU, and say so."""
    if entry.value() is None:
        entry.result, entry.kept = None, False
        raise Skipped('There is no mIoU: nothing was counted, or all ground truth is ignored.')


def _test(entries: Sequence[Entry], device: torch.device | None) -> None:
    """Test entries in one pass, from where an earlier command stopped."""
    unfinished = any((entry.folder / JOURNAL).is_dir() for entry in entries)
    with redirect_stdout(io.StringIO()):
        evaluate_pass(entries, device, resume=unfinished)


def configure(row: Row, dataset: str, options: Mapping[str, Any]) -> Config:
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
    """The checkpoint of a learned projection, which is trained if it does not exist; a stopped training goes on."""
    check_files(config.train_dataloader.dataset, 'train_dataloader')
    expected = digest(fingerprint(config, device, sections=TRAINING))
    folder = out / 'learned' / f'{dataset}-{expected[:16]}'
    checkpoint = folder / ProjectionCheckpointHook.FINAL
    return checkpoint if checkpoint.is_file() else train_projection(config, folder, device=device, resume=True)
