"""Training of the learned projection, the only weight of SCLIP that is trained (section 4.3, Table 2)."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from mmseg.registry import HOOKS, OPTIM_WRAPPERS, OPTIMIZERS
from torch import Tensor, nn

from ..datasets.pipelines import use_own_readers
from ..errors import ConfigError
from ..files import MARK, refuse_taken, write_atomically
from ..paths import config_name, list_configs
from .differences import differences
from .fingerprint import TRAINING, fingerprint
from .loading import read_checkpoint
from .runner import runner_on
from .setup_hook import add_hook
from .vocabulary_check import VocabularyCheckHook

# What a config needs for a training.
TRAINING_KEYS = ('train_dataloader', 'train_cfg', 'optim_wrapper')


def train_projection(
    config: Config, work_dir: Path, seed: int = 0, device: torch.device | str | None = None, resume: bool = False
) -> Path:
    """Train what a config leaves trainable, the matrix W_r of `LearnedProjection`, by cross-entropy on class scores.

    CLIP is frozen, so nothing is stored for the way back through the blocks before the last. With several processes,
    each takes batches of its own of the config's size, and MMEngine's `MMDistributedDataParallel` averages gradients.

    Args:
        config: With `train_dataloader`, `train_cfg` and `optim_wrapper`, such as `sclip_learned_demo`.
            It is not changed.
        work_dir: Folder of the checkpoint, the logs and a copy of the config.
        seed: Of the order of the images and of their crops.
        device: Where to train; None for a GPU where there is one.
        resume: Go on from an interrupted training in `work_dir`, where there is one.

    Returns:
        The checkpoint, which holds the projection alone; `ProjectionCheckpointHook` describes it.

    Raises:
        ConfigError: The config trains nothing, or the training diverged.
    """
    check_trains(config)
    config = copy.deepcopy(config)
    config.work_dir, config.randomness, config.resume = str(work_dir), dict(seed=seed), False
    use_own_readers(config, 'train_dataloader')
    hooks = config.setdefault('default_hooks', {})
    wanted = hooks.get('checkpoint') or {}
    # In place of MMEngine's own, which cannot read its files again; `resume` is the hook's work too.
    hooks['checkpoint'] = dict(type='ProjectionCheckpointHook', interval=wanted.get('interval', 100), resume=resume)
    add_hook(config, VocabularyCheckHook)
    trainer = runner_on(device, _Trainer).from_cfg(config)
    parameters = trainable_parameters(trainer.model)
    if not parameters:
        raise ConfigError(
            'The model has no trainable parameter: CLIP is frozen, and only a LearnedProjection is trained, such as '
            "model.backbone.decoder.attention.projections=['learned']. " + _shipped()
        )
    for name, parameter in parameters.items():
        print_log(f'Training {name} {tuple(parameter.shape)} on {parameter.device}.', logger='current')
    trainer.train()
    return Path(trainer.work_dir) / ProjectionCheckpointHook.FINAL


def check_trains(config: Config) -> None:
    """Refuse a config that says nothing about training.

    Raises:
        ConfigError: With the shipped configs that do.
    """
    missing = [key for key in TRAINING_KEYS if not config.get(key)]
    if missing:
        raise ConfigError(
            f'The config has no {" and no ".join(missing)}, so there is nothing to train: SCLIP itself is '
            'training-free. ' + _shipped()
        )


def _shipped() -> str:
    names = [name for name in map(config_name, list_configs()) if 'sclip_learned_' in name]
    return f'Shipped configs that train: {", ".join(names)}.'


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
    priority = 'VERY_LOW'  # after the hook that steps the learning rate

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
        """What two trainings must have in common to be the same."""
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


def trainable_parameters(model: nn.Module) -> dict[str, Tensor]:
    """The parameters that a training changes, by name; CLIP's own are frozen."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def _model(runner: Runner) -> nn.Module:
    return runner.model.module if is_model_wrapper(runner.model) else runner.model


class _Trainer(Runner):
    """MMEngine's runner, whose optimizer sees only what is trainable."""

    def build_optim_wrapper(self, optim_wrapper: Mapping | OptimWrapper) -> OptimWrapper:
        if isinstance(optim_wrapper, OptimWrapper):
            return optim_wrapper
        parameters = list(trainable_parameters(self.model).values())
        optimizer = OPTIMIZERS.build({**optim_wrapper['optimizer'], 'params': parameters})
        return OPTIM_WRAPPERS.build({'type': 'OptimWrapper', **optim_wrapper, 'optimizer': optimizer})
