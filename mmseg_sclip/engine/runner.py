"""MMEngine's runner as this package uses it: on a device of choice, and careful with files."""

from __future__ import annotations

import copy
import multiprocessing
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.dist import master_only
from mmengine.logging import MessageHub, MMLogger, print_log
from mmengine.model import MMDistributedDataParallel
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from mmengine.runner.checkpoint import _load_checkpoint_to_model
from mmengine.visualization import Visualizer
from mmseg.visualization import SegLocalVisualizer
from torch import nn

from ..datasets.building import build_dataset
from ..datasets.check_files import name_files_in_errors
from ..errors import OutputError
from ..files import MARK, write_atomically
from .loading import read_checkpoint, warn_of_random_weights
from .summary import at_any_level


def build_runner(config: Config, device: torch.device | str | None = None, tta: bool = False) -> Runner:
    """MMEngine's runner for a test, whose errors name files.

    Args:
        config: With a `work_dir`.
        device: Where the model runs; None for a GPU where there is one.
        tta: Put the model into the config's `tta_model`.
    """
    if tta:
        config = copy.deepcopy(config)
        config.model = {**config.tta_model, 'module': config.model}
    runner = runner_on(device, _Tester).from_cfg(config)
    warn_of_random_weights(getattr(runner.model, 'module', runner.model), config)
    print_log(f'The model runs on {device_of(runner.model)}.', logger='current')
    return runner


def device_of(model: nn.Module) -> torch.device:
    """Where a model runs; the CPU for one without parameters."""
    return next((parameter.device for parameter in model.parameters()), torch.device('cpu'))


class _Tester(Runner):
    def call_hook(self, fn_name: str, **kwargs) -> None:
        # The last line of a test is its result.
        with at_any_level(self.logger) if fn_name == 'after_test_epoch' else nullcontext():
            super().call_hook(fn_name, **kwargs)

    @staticmethod
    def build_dataloader(dataloader, *args, **kwargs):
        if isinstance(dataloader, Mapping) and isinstance(dataloader.get('dataset'), Mapping):
            dataloader = {**dataloader, 'dataset': build_dataset(dataloader['dataset'])}
        loader = Runner.build_dataloader(dataloader, *args, **kwargs)
        name_files_in_errors(loader.dataset)
        return loader


def runner_on(device: torch.device | str | None, base: type[Runner] = Runner) -> type[Runner]:
    """A class of runners on the device of choice, whose checkpoints run no code, and which replace no file of a user.

    Args:
        device: Where the model runs; None for a GPU where there is one.
        base: The class to derive from.
    """

    class DeviceRunner(base):
        @staticmethod
        def build_dataloader(*args, **kwargs):
            loader = base.build_dataloader(*args, **kwargs)
            loader.worker_init_fn = partial(_start_worker, os.getpid(), loader.worker_init_fn)
            return loader

        def wrap_model(self, model_wrapper_cfg: dict | None, model: nn.Module) -> nn.Module:
            if device is None:
                return super().wrap_model(model_wrapper_cfg, model)
            model = model.to(device)
            if not self.distributed or not any(parameter.requires_grad for parameter in model.parameters()):
                return model
            ids = [model_device.index] if (model_device := torch.device(device)).type == 'cuda' else None
            return MMDistributedDataParallel(module=model, device_ids=ids, broadcast_buffers=False)

        def load_checkpoint(self, filename: str, map_location='cpu', strict=False, **kwargs) -> dict:
            checkpoint = read_checkpoint(filename)
            self.call_hook('after_load_checkpoint', checkpoint=checkpoint)
            _load_checkpoint_to_model(self.model, checkpoint, strict, **kwargs)
            self._has_loaded = True
            self.logger.info(f'Load checkpoint from {filename}')
            return checkpoint

        @master_only
        def dump_config(self) -> None:
            """Write the whole config into the work folder, unless it was given from there."""
            path = Path(self.work_dir) / (Path(self.cfg.filename).name if self.cfg.filename else f'{self.timestamp}.py')
            if self.cfg.filename and path.resolve() == Path(self.cfg.filename).resolve():
                return
            try:
                with write_atomically(path, '--work-dir') as unfinished:
                    unfinished.write_text(f'# {MARK}\n{self.cfg.pretty_text}', encoding='utf-8')
            except OutputError as error:
                self.logger.error(f'{error} The run goes on without this copy of the config.')

    return DeviceRunner


def _start_worker(parent: int, start: Callable[[int], None] | None, worker: int) -> None:
    """End a loader's worker whose parent was killed meanwhile: torch would take the one it has now for its parent."""
    server = multiprocessing.get_start_method() == 'forkserver'  # the parent of all workers then
    if os.getppid() != parent and not server:
        os._exit(1)
    if start is not None:
        start(worker)


@contextmanager
def isolated() -> Iterator[None]:
    """Hide the globals of other runners inside; at the end, remove those of the runners inside and close their logs."""
    kinds = (MMLogger, MessageHub, DefaultScope, Visualizer, SegLocalVisualizer)
    before = [dict(kind._instance_dict) for kind in kinds]
    for kind in kinds:
        kind._instance_dict.clear()
    try:
        yield
    finally:
        for kind, kept in zip(kinds, before, strict=True):
            for left in kind._instance_dict.values():
                for handler in getattr(left, 'handlers', ()):
                    handler.close()
            kind._instance_dict.clear()
            kind._instance_dict.update(kept)
