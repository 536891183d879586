"""Saving what was trained on top of the frozen CLIP."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from mmseg.registry import HOOKS
from torch import Tensor

from ..errors import ConfigError
from ..files import MARK, refuse_taken, write_atomically
from .fingerprint import TRAINING, differences, fingerprint
from .runner import read_checkpoint


@HOOKS.register_module()
class ProjectionCheckpointHook(Hook):
    """Save the trainable parameters alone, in a file that `torch.load` reads with `weights_only=True`.

    It stands in for MMEngine's CheckpointHook, which saves the whole CLIP in files that it cannot read again
    on torch 2.6 and later. The file is dict(meta=dict(software, dataset_meta=dict(classes, palette)), state_dict=...);
    `tools/test.py` and `init_model` load it on top of CLIP. Files appear under their names when complete.

    Args:
        interval: Iterations between two saves of `unfinished.pth`, which `resume` needs; 0 for none.
        resume: Go on from `unfinished.pth`, where there is one. The rest of the training is then the same as
            without the interruption.

    Attributes:
        FINAL: Name of the file in the work folder after the last iteration.
        UNFINISHED: Name of the one before: as the final one, with the optimizer's state. It goes when that comes.

    Raises:
        ConfigError: A trained value is not finite, or the file to resume from belongs to other settings.
        BadFileError: The file to resume from is damaged.
        OutputError: A file that is not ours has the name of the checkpoint.
    """

    FINAL = 'projection.pth'
    UNFINISHED = 'unfinished.pth'
    priority = 'VERY_LOW'  # behind the hook that steps the learning rate

    def __init__(self, interval: int = 100, resume: bool = False) -> None:
        self.interval = interval
        self.resume = resume

    def before_train(self, runner: Runner) -> None:
        """Go on where an interrupted training stopped, if `resume` says so."""
        for name in (self.FINAL, self.UNFINISHED):
            refuse_taken(Path(runner.work_dir) / name, '--work-dir')
        path = Path(runner.work_dir) / self.UNFINISHED
        self._settings = self._find_settings(runner)
        if not self.resume:
            return
        if not path.is_file():
            runner.logger.info(f'There is no {path} to resume from; the training begins at its beginning.')
            return
        saved = read_checkpoint(str(path))
        training = saved['training']
        if shown := differences(json.loads(training['settings']), self._settings):
            raise ConfigError(
                f'{path} belongs to a training with something else: {shown}. Put that back and resume, name another '
                '--work-dir, or leave --resume out to begin again.'
            )
        _model(runner).load_state_dict(saved['state_dict'], strict=False)  # the frozen CLIP is not in it
        runner.optim_wrapper.load_state_dict(training['optimizer'])
        for scheduler, state in zip(runner.param_schedulers or [], training['schedulers'], strict=True):
            scheduler.load_state_dict(state)
        runner.train_loop._iter = training['iterations']  # the loop then skips the data that was seen
        batches = runner.train_loop.dataloader_iterator
        # onedl-mmengine would skip it in the sampler, and the crops that follow would have other random numbers.
        batches.skip_iter = lambda number: [next(batches) for _ in range(number)]
        runner.logger.info(f'Resumed from {path} after {training["iterations"]} iterations.')

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: dict | None = None
    ) -> None:
        """Save the unfinished state every `interval` iterations."""
        if self.every_n_train_iters(runner, self.interval) and runner.iter + 1 < runner.max_iters:
            training = dict(
                iterations=runner.iter + 1,
                settings=json.dumps(self._settings, default=str),
                optimizer=runner.optim_wrapper.state_dict(),
                schedulers=[scheduler.state_dict() for scheduler in runner.param_schedulers or []],
            )
            self._save(runner, self.UNFINISHED, training=training)

    def after_train(self, runner: Runner) -> None:
        """Save the final file."""
        self._save(runner, self.FINAL)
        if is_main_process():
            (Path(runner.work_dir) / self.UNFINISHED).unlink(missing_ok=True)

    @staticmethod
    def _find_settings(runner: Runner) -> dict:
        """What must be equal for a training to be the same."""
        device, dataset = next(runner.model.parameters()).device, runner.train_dataloader.dataset
        parts = fingerprint(runner.cfg, device, dataset, sections=TRAINING)
        return dict(parts, seed=runner.seed, processes=runner.world_size)

    @staticmethod
    def _save(runner: Runner, name: str, **more: dict) -> None:
        model = _model(runner)
        state = {key: value.detach().cpu().clone() for key, value in trainable_parameters(model).items()}
        for key, value in state.items():
            if not value.isfinite().all():
                raise ConfigError(
                    f'{key} is not finite after {runner.iter} iterations: the training diverged. Lower the learning '
                    'rate: --cfg-options optim_wrapper.optimizer.lr=...'
                )
        if not is_main_process():
            return
        classes, palette = model.dataset_meta['classes'], model.dataset_meta['palette']
        # Plain lists, since weights_only accepts no numpy values.
        meta = dict(
            classes=[str(name) for name in classes], palette=[[int(value) for value in colour] for colour in palette]
        )
        with write_atomically(Path(runner.work_dir) / name, '--work-dir') as unfinished:
            # The mark comes first, since `is_ours` looks near the beginning of a file.
            torch.save(dict(meta=dict(software=MARK, dataset_meta=meta), state_dict=state, **more), unfinished)


def trainable_parameters(model: torch.nn.Module) -> dict[str, Tensor]:
    """The parameters that a training changes, by name; CLIP's own are frozen."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def _model(runner: Runner) -> torch.nn.Module:
    return runner.model.module if is_model_wrapper(runner.model) else runner.model
