"""The numbers that the SCLIP paper prints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

# The paper has no painted scenes: their order is compared with that on VOC21.
REFERENCE = {'demo': 'voc21'}
_PAPER = json.loads(Path(__file__).with_name('paper.json').read_text(encoding='utf-8'))
TAGS: dict[str, str] = _PAPER['tags']  # what the tag of a number means


class Cited(NamedTuple):
    """A number of the paper: mIoU in percent, and its tag."""

    value: float
    tag: str

    def __str__(self) -> str:
        return f'{self.value:.1f} [{self.tag}]'


def cite(row: str | None, dataset: str) -> Cited | None:
    """The paper's mIoU of a row on a dataset, or of `mean` over the eight benchmarks; None where none is known."""
    for entry in _PAPER['numbers']:
        if entry['row'] == row and dataset in entry['values']:
            return Cited(entry['values'][dataset], entry['tag'])
    return None
