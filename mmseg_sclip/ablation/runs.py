"""How a row of a table is run on a dataset: from its config to its mIoU."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import DefaultScope
from mmengine.visualization import Visualizer
from mmseg.visualization import SegLocalVisualizer

from ..cli.configuring import apply_clip_flags, load_config
from ..cli.data_checks import check_test_files
from ..cli.errors import describe
from ..cli.test import build_runner
from ..paths import config_name, config_path, list_configs
from .engine import Run, Skipped
from .fingerprint import fingerprint
from .tables import DATASETS, Row

_TESTED = ('test_dataloader', 'test_evaluator', 'test_cfg')
_TRAINED = ('train_dataloader', 'train_cfg', 'optim_wrapper', 'param_scheduler')


@dataclass(frozen=True)
class Settings:
    """What all runs of a command have in common.

    Attributes:
        out: Folder of logs and of learned projections.
        demo_seed: Of the demo's scenes.
        demo_count: Number of the demo's scenes; None for the config's.
        data_roots: Folder of a dataset by its name.
        model_name: As `--model-name`.
        pretrained: As `--pretrained`.
        device: None for a GPU where there is one.
        options: As `--cfg-options`.
    """

    out: Path
    demo_seed: int = 0
    demo_count: int | None = None
    data_roots: Mapping[str, str] = field(default_factory=dict)
    model_name: str | None = None
    pretrained: str | None = None
    device: torch.device | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


def plan(row: Row, dataset: str, settings: Settings) -> Run:
    """The run of a row on a dataset. Rows of several tables that are one and the same run get one key."""
    try:
        config = _resolve(row, dataset, settings)
        learned = _learned_folder(config, dataset, settings) if row.learned else None
        if dataset == 'demo':  # behind the folder: one projection is good for all scenes that are measured
            config.test_dataloader.dataset.seed = settings.demo_seed
            if settings.demo_count is not None:
                config.test_dataloader.dataset.count = settings.demo_count
        key = f'{dataset}-{fingerprint(config, _TESTED, settings.device, learned.name if learned else "")}'
    except Exception as error:  # reported in the place of its row, and the other rows go on
        return Run(None, _raising(error))

    def work() -> dict[str, Any]:
        with _missing_files_skip():
            check_test_files(config)
        checkpoint = None if learned is None else _train(config, learned, settings.device)
        return {'config': config_of(row, dataset), **measure(config, settings.out / 'logs' / key, settings, checkpoint)}

    return Run(key, work)


def config_of(row: Row, dataset: str) -> str:
    """The name of the config of a row."""
    return row.config.format(dataset=dataset)


def measure(config: Config, folder: Path, settings: Settings, checkpoint: Path | None = None) -> dict[str, Any]:
    """Test a config in this process; what MMEngine prints goes to a log in the folder.

    Returns:
        `images`, their number, and `mIoU` in percent.

    Raises:
        Skipped: Weights are missing.
    """
    config.work_dir, config.experiment_name = str(folder), folder.name
    config.load_from = None if checkpoint is None else str(checkpoint)
    with _apart():
        with _missing_files_skip():
            runner = build_runner(config, settings.device)
        metrics = runner.test()
        return dict(images=len(runner.test_dataloader.dataset), mIoU=round(float(metrics['mIoU']), 2))


def _resolve(row: Row, dataset: str, settings: Settings) -> Config:
    """The config with the row's options and the command's; raises `Skipped` where there is none."""
    if row.unknown:
        raise Skipped(row.unknown)
    name, known = config_of(row, dataset), [config_name(path) for path in list_configs()]
    if name not in known:
        if dataset == 'demo' and row.name.startswith('mode'):
            raise Skipped('the painted scenes are not resized, so there is nothing to vary')
        there = [other for other in DATASETS if config_of(row, other) in known]
        raise Skipped(f'there is no config {name}; this row has configs for: {", ".join(there) or "no dataset"}')
    config = load_config(str(config_path(name)), {**row.options, **settings.options})
    if dataset in settings.data_roots:
        for loader in ('train_dataloader', 'test_dataloader'):
            if config.get(loader) is not None:
                config[loader].dataset.data_root = settings.data_roots[dataset]
    apply_clip_flags(config, settings.model_name, settings.pretrained)
    return config


def _learned_folder(config: Config, dataset: str, settings: Settings) -> Path:
    return settings.out / 'learned' / f'{dataset}-{fingerprint(config, _TRAINED, settings.device)}'


def _train(config: Config, folder: Path, device: torch.device | None) -> Path:
    """The checkpoint of a learned projection; trained where it is not there, on from where a training stopped."""
    from ..engine import ProjectionCheckpointHook
    from ..learning import train_projection

    checkpoint = folder / ProjectionCheckpointHook.FINAL
    if checkpoint.is_file():
        return checkpoint
    config.experiment_name = folder.name
    with _apart(), _missing_files_skip('not trained: '):
        return train_projection(config, folder, device=device, resume=True)


def _raising(error: Exception) -> Callable[[], dict[str, Any]]:
    def work() -> dict[str, Any]:
        raise error

    return work


@contextmanager
def _missing_files_skip(prefix: str = '') -> Iterator[None]:
    """Data and weights that are not there are no failure."""
    try:
        yield
    except FileNotFoundError as error:
        raise Skipped(prefix + describe(error)) from error


@contextmanager
def _apart() -> Iterator[None]:
    """Let MMEngine's runner print nothing and see no other runner's globals, and take away its own, open logs too."""
    kinds = (MMLogger, MessageHub, DefaultScope, Visualizer, SegLocalVisualizer)
    before = [dict(kind._instance_dict) for kind in kinds]
    for kind in kinds:
        kind._instance_dict.clear()
    try:
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        for kind, kept in zip(kinds, before, strict=True):
            for left in kind._instance_dict.values():
                for handler in getattr(left, 'handlers', ()):
                    handler.close()
            kind._instance_dict.clear()
            kind._instance_dict.update(kept)
