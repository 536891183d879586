"""Models ready to predict, and checkpoints that run no code when they are read."""

from __future__ import annotations

import copy
import io
import logging
from pathlib import Path

import torch
from mmengine import fileio
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.logging import print_log
from mmengine.registry import init_default_scope
from mmengine.runner.checkpoint import _load_checkpoint_to_model
from mmseg.registry import MODELS
from torch import nn

from ..errors import BadFileError
from ..models.clip.plain_values import asked_for
from ..models.clip.weights import read_pickle
from ..models.needed import check_weights


def read_checkpoint(name: str) -> dict:
    """A checkpoint from a file or an address, read as tensors and plain values only; official ones hold no more.

    Raises:
        BadFileError: It cannot be read, or holds more than that.
    """
    try:
        return read_pickle(io.BytesIO(fileio.get(name)) if '://' in name else Path(name))
    except Exception as error:  # torch and the backends of addresses raise many kinds
        if asked := asked_for(error):
            raise BadFileError(
                f'The checkpoint {name} cannot be loaded: it holds more than tensors and plain values, which could run '
                f'code{asked}. If you trust it, load it once yourself with weights_only=False, and save what is needed '
                'of it with torch.save: dict(meta={}, state_dict=...).'
            ) from error
        reason = str(error).strip().partition('\n')[0].partition('. ')[0] or type(error).__name__
        raise BadFileError(
            f'The checkpoint {name} cannot be loaded ({reason}). It is damaged, or holds more than tensors: it must be '
            "dict(meta=..., state_dict=...), readable with torch.load's weights_only."
        ) from error


def build_model(config: Config, device: torch.device | str | None = None) -> nn.Module:
    """A config's model, ready to predict, with the checkpoint of `load_from` where the config names one.

    As MMSeg's `init_model`, but a checkpoint runs no code.

    Args:
        config: It becomes the model's `cfg`.
        device: Where it runs; None for a GPU where there is one.

    Raises:
        MissingFileError: Weights are not there and cannot be fetched.
    """
    init_default_scope(config.get('default_scope') or 'mmseg')
    check_weights(config.model)
    # As in MMEngine's runner, the model's own preprocessor wins.
    default = {key: config[key] for key in ('data_preprocessor',) if config.get(key) is not None}
    # A copy: MMSegmentation's segmentors write into their config.
    model = MODELS.build(copy.deepcopy({**default, **config.model}))
    if config.get('load_from'):
        _load_checkpoint_to_model(model, read_checkpoint(str(config.load_from)))
    warn_of_random_weights(model, config)
    model.cfg = config
    return model.to(device or get_device()).eval()


def warn_of_random_weights(model: nn.Module, config: Config) -> None:
    """Say that a model of MMSegmentation has no checkpoint; pretrained backbones of a config are for training only."""
    if type(model).__module__.startswith('mmseg.') and not config.get('load_from'):
        print_log(
            f'{config.filename or "This config"} names no checkpoint, so its {type(model).__name__} has random '
            "weights, and its labels mean nothing. Set load_from='CHECKPOINT' in the config.",
            logger='current',
            level=logging.WARNING,
        )
