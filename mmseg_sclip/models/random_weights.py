"""Random weights, which stand in where a config asks for none."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def fixed_draw() -> Iterator[None]:
    """Draw weights on the CPU that are the same in every process and in a run that goes on; nothing else changes."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield
