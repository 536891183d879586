"""What the SCLIP paper prints, and how sure that is."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

# The paper has no painted scenes: their order is compared with that on VOC21.
REFERENCE = {'demo': 'voc21'}


class Cited(NamedTuple):
    """A number of the paper: mIoU in percent, its tag (see `tags`), and where it was read."""

    value: float
    tag: str
    source: str


@lru_cache
def _load() -> dict:
    return json.loads(Path(__file__).with_name('paper.json').read_text(encoding='utf-8'))


def tags() -> dict[str, str]:
    """What the tags of `Cited` mean."""
    return _load()['tags']


def cite(row: str | None, dataset: str) -> Cited | None:
    """The paper's mIoU of a row on a dataset, None where it has none or none is known to us.

    Args:
        row: A name of `tables`, such as 'maskclip+pamr'; no two tables use one name for two things.
        dataset: A name of `tables.DATASETS`, or 'mean' for the mean over the eight benchmarks.
    """
    for entries in _load()['tables'].values():
        for entry in entries:
            if entry['row'] == row and dataset in entry['values']:
                return Cited(entry['values'][dataset], entry['tag'], entry['source'])
    return None
