"""Clocks and meters: time on CPU and GPU, peak memory, the machine's peak."""

from __future__ import annotations

import ctypes
import functools
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch

_CLEAR, _STATUS = Path('/proc/self/clear_refs'), Path('/proc/self/status')


def synchronize(device: torch.device) -> None:
    """Wait until the device has done what it was told."""
    if device.type == 'cuda':
        torch.cuda.synchronize(device)


def seconds(work: Callable[[], Any], device: torch.device) -> tuple[float, Any]:
    """How long `work` takes, and what it returns; on a GPU by its own events."""
    if device.type == 'cuda':
        start, stop = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        synchronize(device)
        start.record()
        result = work()
        stop.record()
        synchronize(device)
        return start.elapsed_time(stop) / 1000, result
    began = time.perf_counter()
    result = work()
    return time.perf_counter() - began, result


def peak_mib(work: Callable[[], Any], device: torch.device) -> float | None:
    """Peak memory of `work` in MiB above what is in use before it.

    On a GPU what torch has allocated; on Linux the process's resident memory, after free memory was given back to
    the system; None where neither can be read.
    """
    if device.type == 'cuda':
        synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        work()
        synchronize(device)
        return (torch.cuda.max_memory_allocated(device) - before) / 2**20
    with suppress(OSError, AttributeError):  # without glibc
        ctypes.CDLL(None).malloc_trim(0)
    try:
        _CLEAR.write_text('5')  # resets the high-water mark
        before = _status_kib('VmRSS')
    except (OSError, KeyError):
        work()
        return None
    work()
    return (_status_kib('VmHWM') - before) / 1024


def _status_kib(name: str) -> int:
    lines = dict(line.split(':', 1) for line in _STATUS.read_text().splitlines())
    return int(lines[name].split()[0])


def peak_gflops(dtype: torch.dtype, device: torch.device, repeats: int = 30) -> float:
    """GFLOP/s of the best of `torch.mm` on (1182 x 768)(768 x 3072): six windows of ViT-B/16 into its feed-forward."""
    left, right = (torch.randn(*shape, device=device).to(dtype) for shape in ((1182, 768), (768, 3072)))
    for _ in range(3):
        torch.mm(left, right)
    best = min(seconds(lambda: torch.mm(left, right), device)[0] for _ in range(repeats))
    return 2 * 1182 * 768 * 3072 / best / 1e9


class Stages:
    """Seconds by the name of a stage, gathered from methods that are wrapped meanwhile.

    Args:
        device: Is waited for at the end of each stage.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count what happens inside as `name`."""
        synchronize(self.device)
        began = time.perf_counter()
        yield
        synchronize(self.device)
        self.seconds[name] += time.perf_counter() - began

    @contextmanager
    def watching(self, **methods: tuple[Any, str]) -> Iterator[None]:
        """Count calls of methods: `watching(vit=(backbone, 'record'))`; a name may end in digits, to stand twice."""
        for key, (owner, method) in methods.items():
            object.__setattr__(owner, method, self._timed(key.rstrip('0123456789'), getattr(owner, method)))
        try:
            yield
        finally:
            for owner, method in methods.values():
                object.__delattr__(owner, method)

    def _timed(self, name: str, function: Callable) -> Callable:
        @functools.wraps(function)
        def timed(*args, **kwargs):
            with self.stage(name):
                return function(*args, **kwargs)

        return timed
