"""Saving what was trained on top of the frozen CLIP."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

import torch
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from mmseg.registry import HOOKS
from torch import Tensor


@HOOKS.register_module()
class ProjectionCheckpointHook(Hook):
    """Save the trainable parameters alone, in a file that `torch.load` reads with `weights_only=True`.

    It stands in for MMEngine's CheckpointHook, which saves the whole CLIP in files that it cannot read again
    on torch 2.6 and later. The file is dict(meta=dict(dataset_meta=dict(classes, palette)), state_dict=...);
    `tools/test.py` and `init_model` load it on top of CLIP. Files appear under their names when complete.

    Args:
        interval: Iterations between two saves of `unfinished.pth`, which `resume` needs; 0 for none.
        resume: Go on from `unfinished.pth`, where there is one. The rest of the training is then the same as
            without the interruption.

    Attributes:
        FINAL: Name of the file in the work folder after the last iteration.
        UNFINISHED: Name of the one before: as the final one, with the optimizer's state. It goes when that comes.

    Raises:
        ValueError: A trained value is not finite, or the file to resume from belongs to other settings.
    """

    FINAL = 'projection.pth'
    UNFINISHED = 'unfinished.pth'
    priority = 'VERY_LOW'  # behind the hook that steps the learning rate

    def __init__(self, interval: int = 100, resume: bool = False) -> None:
        self.interval = interval
        self.resume = resume

    def before_train(self, runner: Runner) -> None:
        """Go on where an interrupted training stopped, if `resume` says so."""
        path = Path(runner.work_dir) / self.UNFINISHED
        if not self.resume:
            return
        if not path.is_file():
            runner.logger.info(f'There is no {path} to resume from; the training begins at its beginning.')
            return
        saved = torch.load(path, map_location='cpu', weights_only=True)
        training, now = saved['training'], self._settings(runner)
        if training['settings'] != now:
            raise ValueError(
                f'{path} belongs to a training with {training["settings"]}, but this one has {now}. Give the same '
                'settings, or another --work-dir, or leave --resume out to begin again.'
            )
        _model(runner).load_state_dict(saved['state_dict'], strict=False)  # the frozen CLIP is not in it
        runner.optim_wrapper.load_state_dict(training['optimizer'])
        for scheduler, state in zip(runner.param_schedulers or [], training['schedulers'], strict=True):
            scheduler.load_state_dict(state)
        runner.train_loop._iter = training['iterations']  # the loop then skips the data that was seen
        runner.logger.info(f'Resumed from {path} after {training["iterations"]} iterations.')

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: dict | None = None
    ) -> None:
        """Save the unfinished state every `interval` iterations."""
        if self.every_n_train_iters(runner, self.interval) and runner.iter + 1 < runner.max_iters:
            training = dict(
                iterations=runner.iter + 1,
                settings=self._settings(runner),
                optimizer=runner.optim_wrapper.state_dict(),
                schedulers=[scheduler.state_dict() for scheduler in runner.param_schedulers or []],
            )
            self._save(runner, self.UNFINISHED, training=training)

    def after_train(self, runner: Runner) -> None:
        """Save the final file."""
        self._save(runner, self.FINAL)
        (Path(runner.work_dir) / self.UNFINISHED).unlink(missing_ok=True)

    @staticmethod
    def _settings(runner: Runner) -> dict:
        """What must be equal for a training to be the same."""
        shapes = {name: list(value.shape) for name, value in trainable_parameters(_model(runner)).items()}
        return dict(seed=runner.seed, max_iters=runner.max_iters, **shapes)

    @staticmethod
    def _save(runner: Runner, name: str, **more: dict) -> None:
        model = _model(runner)
        state = {key: value.detach().cpu().clone() for key, value in trainable_parameters(model).items()}
        for key, value in state.items():
            if not value.isfinite().all():
                raise ValueError(
                    f'{key} is not finite after {runner.iter} iterations: the training diverged. Lower the learning '
                    'rate: --cfg-options optim_wrapper.optimizer.lr=...'
                )
        classes, palette = model.dataset_meta['classes'], model.dataset_meta['palette']
        # Plain lists, since weights_only accepts no numpy values.
        meta = dict(
            classes=[str(name) for name in classes], palette=[[int(value) for value in colour] for colour in palette]
        )
        path = Path(runner.work_dir) / name
        unfinished = path.with_name(f'.{name}.{uuid.uuid4().hex}')
        try:
            torch.save(dict(meta=dict(dataset_meta=meta), state_dict=state, **more), unfinished)
            os.replace(unfinished, path)
        finally:
            unfinished.unlink(missing_ok=True)


def trainable_parameters(model: torch.nn.Module) -> dict[str, Tensor]:
    """The parameters that a training changes, by name; CLIP's own are frozen."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def _model(runner: Runner) -> torch.nn.Module:
    return runner.model.module if is_model_wrapper(runner.model) else runner.model
