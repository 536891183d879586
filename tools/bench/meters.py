"""Clocks and meters: time, stages, peak memory, the machine's peak."""

from __future__ import annotations

import ctypes
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch

from mmseg_sclip.models import SCLIPSegmentor

_CLEAR, _STATUS = Path('/proc/self/clear_refs'), Path('/proc/self/status')


def synchronize(device: torch.device) -> None:
    """Wait until the device has done what it was told."""
    if device.type == 'cuda':
        torch.cuda.synchronize(device)


def seconds(work: Callable[[], Any], device: torch.device) -> tuple[float, Any]:
    """How long `work` takes, and what it returns."""
    synchronize(device)
    began = time.perf_counter()
    result = work()
    synchronize(device)
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
        before = resident_mib()
    except (OSError, KeyError):
        work()
        return None
    work()
    return _status_kib('VmHWM') / 1024 - before


def resident_mib() -> float:
    """The resident memory of this process in MiB; on Linux only."""
    return _status_kib('VmRSS') / 1024


def _status_kib(name: str) -> int:
    lines = dict(line.split(':', 1) for line in _STATUS.read_text().splitlines())
    return int(lines[name].split()[0])


def peak_gflops(dtype: torch.dtype, device: torch.device, repeats: int = 30, budget: float = 3.0) -> float:
    """GFLOP/s of the best of `torch.mm` on (1182 x 768)(768 x 3072): six windows of ViT-B/16 into its feed-forward.

    It ends after `repeats`, or `budget` seconds: one product takes 8 s on a CPU that has to emulate bfloat16.
    """
    left, right = (torch.randn(*shape, device=device).to(dtype) for shape in ((1182, 768), (768, 3072)))
    spent = []
    while len(spent) < repeats and sum(spent) < budget:
        spent.append(seconds(lambda: torch.mm(left, right), device)[0])
    return 2 * 1182 * 768 * 3072 / min(spent) / 1e9


class Stages:
    """Seconds by the name of a stage.

    Args:
        device: Is waited for at both ends of a stage.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds: dict[str, float] = defaultdict(float)
        self._open: list[tuple[str, float]] = []

    def start(self, name: str) -> None:
        """Count from here on as `name`."""
        synchronize(self.device)
        self._open.append((name, time.perf_counter()))

    def stop(self) -> None:
        """End what was started last; what was started inside another stage counts there too."""
        synchronize(self.device)
        name, began = self._open.pop()
        self.seconds[name] += time.perf_counter() - began

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count what happens inside as `name`."""
        self.start(name)
        yield
        self.stop()

    @contextmanager
    def watching(self, model: SCLIPSegmentor) -> Iterator[None]:
        """Count the image tower with its decoder as `vit`, and the head as `text`, by forward hooks."""
        tower, decoder = model.backbone.tower.visual, model.backbone.decoder
        parts = {module: 'vit' for module in (tower.ln_pre, *tower.transformer.resblocks, decoder)}
        hooks = []
        for module, name in {**parts, model.decode_head: 'text'}.items():
            hooks.append(module.register_forward_pre_hook(lambda *_, name=name: self.start(name)))
            hooks.append(module.register_forward_hook(lambda *_: self.stop()))
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()
