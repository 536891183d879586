"""Runs: configs that are tested together, in as few passes as their images allow."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dist import broadcast_object_list
from mmengine.registry import init_default_scope

from ..engine.evaluation import evaluate_methods
from ..engine.fingerprint import digest, fingerprint
from ..engine.preparing import prepare
from ..engine.result import read_result
from ..engine.runner import isolated
from ..engine.sharing import passes


@dataclass(kw_only=True)
class Run:
    """A config that is tested together with others, and its result.

    Attributes:
        method: What tables call it.
        dataset: The name of its dataset.
        config: Its `work_dir` is the folder of its log and its `result.json`. None until it has been read.
        protocol: Where its image sizes, windows and words are from, such as 'own'; None if there is only one.
        seed: Of the demo's scenes; None for other datasets.
        number: Of the pass in which it was tested, from 1.
        result: See `evaluate`; None where there is none.
        kept: Whether the result is that of an earlier run.
        reason: Why there is no result.
        failed: Whether the reason is an error, and not missing data, weights or configs.
    """

    method: str
    dataset: str
    config: Config | None = None
    protocol: str | None = None
    seed: int | None = None
    number: int = 0
    result: dict[str, Any] | None = None
    kept: bool = False
    reason: str | None = None
    failed: bool = False

    @property
    def folder(self) -> Path | None:
        """Where its log and its `result.json` are."""
        return None if self.config is None else Path(self.config.work_dir)

    @property
    def checkpoint(self) -> str | None:
        """What it loads on top of CLIP."""
        return None if self.config is None else self.config.get('load_from')

    def value(self, metric: str = 'mIoU') -> float | None:
        """A metric in percent; None where there is no result, or no number in it."""
        return None if self.result is None else self.result['metrics'].get(metric)


def evaluate_runs(
    runs: Sequence[Run], device: torch.device | str | None, resume: bool = False, on_error: str = 'stop'
) -> None:
    """Test runs in as few passes as possible, and fill in their results and the numbers of their passes.

    Args:
        runs: Each with a config, in a folder of its own.
        device: None for a GPU where there is one.
        resume: Keep the results of finished passes, and go on after the finished images of the next.
        on_error: 'stop' at a sample that cannot be read, or 'skip' it.
    """
    for number, group in enumerate(passes([run.config for run in runs]), 1):
        members = [runs[index] for index in group]
        if not (resume and _keep(members, device, on_error)):
            evaluate_pass(members, device, resume, on_error)
        for run in members:
            run.number = number


def evaluate_pass(
    runs: Sequence[Run], device: torch.device | str | None, resume: bool = False, on_error: str = 'stop'
) -> None:
    """Test runs that share a pass, and fill in their results; the arguments are those of `evaluate_runs`."""
    with isolated():
        init_default_scope('mmseg')
        results = evaluate_methods([run.config for run in runs], device, resume, on_error)
    for run, result in zip(runs, results, strict=True):
        run.result = result


def kept_result(folder: Path | str, expected: str) -> dict[str, Any] | None:
    """The result in a work folder if it has the expected fingerprint, else None."""
    result = read_result(folder)
    return result if result is not None and result.get('fingerprint') == expected else None


def _keep(runs: Sequence[Run], device: torch.device | str | None, on_error: str) -> bool:
    """Take the results of a pass that is finished already; all processes do what the first one finds."""
    results = []
    with isolated():
        init_default_scope('mmseg')
        for run in runs:
            config = copy.deepcopy(run.config)
            prepare(config, on_error)  # a result has the fingerprint of what was tested
            results.append(kept_result(config.work_dir, digest(fingerprint(config, device))))
    broadcast_object_list(results)
    if None in results:
        return False
    for run, result in zip(runs, results, strict=True):
        run.result, run.kept = result, True
    return True
