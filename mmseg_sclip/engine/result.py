"""`result.json`: all that later reports need of an evaluation."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..files import MARK, write_atomically

FILE = 'result.json'
_COUNTS = ('intersect', 'union', 'predicted', 'truth')


def class_results(names: Sequence[str], counts: Tensor) -> list[dict[str, Any]]:
    """One entry for each class: its pixels, and its IoU and accuracy in percent.

    Args:
        names: Of the C classes.
        counts: (C, 4) int64: pixels of intersection, union, prediction and truth.

    Returns:
        `name`, `intersect`, `union`, `predicted`, `truth`, `IoU` and `Acc`; the last two are None where they would be
        divided by zero.
    """
    intersect, union, _, truth = counts.double().unbind(dim=1)
    shares = torch.stack([100 * intersect / union, 100 * intersect / truth], dim=1).tolist()
    return [
        dict(
            name=name,
            **dict(zip(_COUNTS, pixels, strict=True)),
            **{key: finite(value) for key, value in zip(('IoU', 'Acc'), values, strict=True)},
        )
        for name, pixels, values in zip(names, counts.tolist(), shares, strict=True)
    ]


def finite(value: float) -> float | None:
    """The number, or None for NaN, which JSON does not have."""
    return None if value != value else value


def write_result(result: Mapping[str, Any], folder: Path | str) -> Path:
    """Write `result.json` into a work folder, whole or not at all.

    Raises:
        OutputError: The folder cannot be written, or a file that is not ours has the name.
    """
    path = Path(folder) / FILE
    with write_atomically(path, f'{FILE} of --work-dir') as unfinished:
        text = json.dumps({**result, 'software': MARK}, indent=1, allow_nan=False, default=str)
        unfinished.write_text(text + '\n', encoding='utf-8')
    return path


def read_result(folder: Path | str) -> dict[str, Any] | None:
    """The result in a work folder; None where there is none that can be read."""
    try:
        result = json.loads((Path(folder) / FILE).read_text(encoding='utf-8'))
    except (OSError, ValueError):
        return None
    return result if isinstance(result, dict) and 'metrics' in result else None
