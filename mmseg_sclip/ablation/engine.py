"""Runs a list of runs and keeps what is finished, whatever interrupts it. Knows nothing about what a run does."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


class Skipped(Exception):
    """Raised by a run that cannot be done here; its text is the reason."""


@dataclass(frozen=True)
class Run:
    """One thing to do.

    Attributes:
        key: Name of its file. It must change whenever the result could; None where nothing shall be kept.
        work: Does it and returns what `json` can write; raises `Skipped` with the reason where it cannot.
    """

    key: str | None
    work: Callable[[], dict[str, Any]]


@dataclass(frozen=True)
class Outcome:
    """What became of a run.

    Attributes:
        result: What `work` returned; None where it returned nothing.
        seconds: How long that took, also where the result was kept from before; None without a result.
        reason: Why there is no result; None where there is one.
        failed: The reason is an error, and not `Skipped`.
        kept: The result was there before.
    """

    result: dict[str, Any] | None = None
    seconds: float | None = None
    reason: str | None = None
    failed: bool = False
    kept: bool = False


def execute(
    runs: Sequence[Run],
    folder: Path,
    explain: Callable[[Exception], str] = str,
    before: Callable[[int], None] = lambda index: None,
    after: Callable[[int, Outcome], None] = lambda index, outcome: None,
) -> list[Outcome]:
    """Do the runs in turn, except those whose result lies in the folder.

    A finished run is one JSON file, which appears whole or not at all: after an interruption the same
    call goes on behind the last finished run. Runs with the same key are done once. A run that fails
    or is skipped leaves no file, so the next call tries it again.

    Args:
        runs: What to do.
        folder: For the files, `<key>.json`; made where it is missing.
        explain: Turns the error of a failed run into its reason.
        before: Called with the index of a run that starts.
        after: Called with the index and the outcome of a run that ended.

    Returns:
        One outcome a run, in their order.
    """
    folder.mkdir(parents=True, exist_ok=True)
    outcomes = []
    for index, run in enumerate(runs):
        path = None if run.key is None else folder / f'{run.key}.json'
        outcome = None if path is None else _read(path)
        if outcome is None:
            before(index)
            outcome = _do(run, explain)
            if path is not None and outcome.result is not None:
                record = dict(seconds=outcome.seconds, result=outcome.result)
                write_atomically(path, json.dumps(record, indent=2) + '\n')
        after(index, outcome)
        outcomes.append(outcome)
    return outcomes


def write_atomically(path: Path, text: str) -> None:
    """Write a file so that nobody ever sees a part of it."""
    unfinished = path.with_name(f'.{path.name}.{os.getpid()}')
    try:
        with unfinished.open('w', encoding='utf-8') as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def _do(run: Run, explain: Callable[[Exception], str]) -> Outcome:
    start = time.monotonic()
    try:
        result = run.work()
    except Skipped as reason:
        return Outcome(reason=str(reason))
    except Exception as error:  # the other runs shall not suffer, whatever it is
        return Outcome(reason=explain(error) or type(error).__name__, failed=True)
    return Outcome(result, round(time.monotonic() - start, 2))


def _read(path: Path) -> Outcome | None:
    """The outcome in a file; None where there is none that can be read."""
    try:
        record = json.loads(path.read_text(encoding='utf-8'))
        return Outcome(record['result'], record['seconds'], kept=True)
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
