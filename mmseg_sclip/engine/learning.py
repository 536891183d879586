"""Training of the learned projection, the only weight of SCLIP that is ever trained (section 4.3, Table 2)."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from mmseg.registry import OPTIM_WRAPPERS, OPTIMIZERS

from ..datasets.pipelines import use_own_readers
from ..errors import ConfigError
from ..paths import config_name, list_configs
from .projection_checkpoint import ProjectionCheckpointHook, trainable_parameters
from .runner import runner_on
from .vocabulary_check import add_vocabulary_check

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
    add_vocabulary_check(config)
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


class _Trainer(Runner):
    """MMEngine's runner, whose optimizer sees only what is trainable."""

    def build_optim_wrapper(self, optim_wrapper: Mapping | OptimWrapper) -> OptimWrapper:
        if isinstance(optim_wrapper, OptimWrapper):
            return optim_wrapper
        parameters = list(trainable_parameters(self.model).values())
        optimizer = OPTIMIZERS.build({**optim_wrapper['optimizer'], 'params': parameters})
        return OPTIM_WRAPPERS.build({'type': 'OptimWrapper', **optim_wrapper, 'optimizer': optimizer})
