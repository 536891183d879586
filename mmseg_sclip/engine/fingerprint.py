"""What a result depends on: two runs with one fingerprint have the same result.

`fingerprint` gives the parts, so that a difference can be shown, and `digest` a short word for them.
"""

from __future__ import annotations

import copy
import hashlib
import json
import platform
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import mmcv
import mmengine
import mmseg
import numpy as np
import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmseg.evaluation import IoUMetric
from mmseg.registry import METRICS

from ..checks import is_a
from ..compat import open_clip
from ..compat.versions import version_of
from ..config import named_head
from ..datasets.building import build_dataset
from ..datasets.pipelines import use_own_readers
from ..files import file_hash, file_stamp
from ..models.companions.base import build_companions, pretrained_of
from ..models.needed import files_of_head
from ..models.text import load_vocabulary
from ..models.towers.source import OPEN_CLIP, build_source
from ..version import __version__
from .sources import modules_of_types, package_sources, user_sources

TESTING = (
    'test_dataloader',
    'test_evaluator',
    'test_cfg',
    'tta_model',
    'custom_hooks',
    'custom_imports',
    'env_cfg',
    'randomness',
)
TRAINING = ('train_dataloader', 'train_cfg', 'optim_wrapper', 'param_scheduler', 'custom_imports', 'randomness')
# They change how fast samples come, where files are written, and what is done about samples that cannot be read.
_WITHOUT_EFFECT = ('num_workers', 'persistent_workers', 'prefetch_factor', 'pin_memory', 'output_dir', 'collate_fn')

# Of an IoUMetric: what is made of its counts. Of `env_cfg`: how processes start and talk.
_OF_THE_TABLE = ('iou_metrics', 'nan_to_num', 'beta', 'prefix', 'collect_device')
_OF_PROCESSES = ('mp_cfg', 'dist_cfg', 'resource_limit')


def fingerprint(
    config: Config,
    device: torch.device | str | None = None,
    dataset: Any = None,
    sections: Sequence[str] = TESTING,
) -> dict[str, Any]:
    """All that the result of a test or a training depends on, as JSON types.

    Args:
        config: Resolved. Modules that its `custom_imports` names have been imported.
        device: Where the model runs; None for a GPU where there is one.
        dataset: The built dataset, where there is one already.
        sections: `TESTING` or `TRAINING`: the top-level keys that matter beside `model`. The dataset is that of the
            first one.

    Returns:
        `settings` (of the config), `vocabulary` (the phrases of each class), `weights` (see `weights_identity`),
        `named_files` (hashes of other files that the model's settings name), `data` (size and times of each file of
        the dataset), `versions`, `device`, and `sources` (hashes of this package's files, and of the user's modules).

    Raises:
        MissingFileError: Data, weights or a vocabulary are missing.
    """
    config = copy.deepcopy(config)
    if sections[0] in config:
        use_own_readers(config, sections[0])  # as the test and the training do
    settings = _effective({key: value for key, value in config.to_dict().items() if key in ('model', *sections)})
    if dataset is None:
        dataset = build_dataset(config[sections[0]].dataset)
    vocabulary = named_head(config).get('vocabulary')
    folders = [Path(config.filename).parent] if config.filename else []
    imports = (config.get('custom_imports') or {}).get('imports', [])
    modules = {imports} if isinstance(imports, str) else set(imports)
    return dict(
        settings=settings,
        vocabulary=None if vocabulary is None else load_vocabulary(vocabulary, folders).classes,
        weights=weights_identity(config),
        named_files={text: file_hash(Path(text)) for text in _strings(settings['model']) if _is_small_file(text)},
        data={path: file_stamp(Path(path)) for path in data_files(dataset)},
        versions=versions() | _versions_of_networks(config.model),
        device=device_name(device),
        sources=package_sources() | user_sources(modules | modules_of_types(settings)),
    )


def of_counts(parts: Mapping[str, Any]) -> dict[str, Any]:
    """What the counts of an image depend on: a fingerprint without the settings of what is made of all counts.

    Args:
        parts: Of `fingerprint`.
    """
    settings = dict(parts['settings'])
    evaluators = settings.get('test_evaluator')
    if isinstance(evaluators, Mapping):
        settings['test_evaluator'] = _counting(evaluators)
    elif evaluators is not None:
        settings['test_evaluator'] = [_counting(evaluator) for evaluator in evaluators]
    if settings.get('env_cfg'):
        settings['env_cfg'] = {key: value for key, value in settings['env_cfg'].items() if key not in _OF_PROCESSES}
    return {**parts, 'settings': settings}


def _counting(evaluator: Mapping) -> Mapping:
    """The settings of an evaluator that its counts depend on; all of them where it is not an IoUMetric."""
    iou = is_a(METRICS, evaluator, IoUMetric)
    return {key: value for key, value in evaluator.items() if key not in _OF_THE_TABLE} if iou else evaluator


def digest(parts: Mapping[str, Any]) -> str:
    """SHA-256 of what `fingerprint` returns."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def weights_identity(config: Config) -> dict[str, Any] | None:
    """What identifies the weights of a config: their content.

    Returns:
        What the source of the towers says of them (see `TowerSource.weights_identity`), and its `companions`, and what
        else is `read` from files; with a `checkpoint` on top of CLIP `name` and `sha256` of that one too.
        A model without `clip` has the checkpoint only, or None.
    """
    identity: dict[str, Any] = {}
    if (clip := config.model.get('clip')) is not None:
        identity = build_source(clip, 'The config').weights_identity()
    if companions := pretrained_of(build_companions(config.model.get('companions'))):
        identity['companions'] = {name: pretrained.identity() for name, pretrained in companions.items()}
    if read := files_of_head(config.model):
        identity['read'] = {name: file.identity() for name, file in read.items()}
    checkpoint = config.get('load_from')
    if checkpoint:
        there = Path(checkpoint).is_file()  # it may be an address
        identity['checkpoint'] = dict(name=str(checkpoint), sha256=file_hash(Path(checkpoint)) if there else None)
    return identity or None


def versions() -> dict[str, str]:
    """Of Python and of the packages whose code makes the numbers."""
    packages = dict(
        torch=torch, mmengine=mmengine, mmsegmentation=mmseg, mmcv=mmcv, open_clip=open_clip, numpy=np, opencv=cv2
    )
    return dict(
        python=platform.python_version(),
        **{name: package.__version__ for name, package in packages.items()},
        mmseg_sclip=__version__,
    )


def _versions_of_networks(model: Mapping[str, Any]) -> dict[str, str | None]:
    """Of the packages whose code makes second networks, and towers that are not open_clip's."""
    own = not model.get('companions') and (model.get('clip') or {}).get('type', OPEN_CLIP) == OPEN_CLIP
    return {} if own else {name: version_of(name) for name in ('timm', 'transformers')}


def device_name(device: torch.device | str | None) -> str:
    """`cpu`, or the name of the GPU; None stands for a GPU where there is one."""
    device = torch.device(device or get_device())
    return torch.cuda.get_device_name(device) if device.type == 'cuda' else str(device)


def data_files(dataset: Any) -> list[str]:
    """The paths of a dataset's images and label maps, by what its samples call `..._path`."""
    samples = map(dataset.get_data_info, range(len(dataset)))
    return [
        value for sample in samples for key, value in sample.items() if key.endswith('_path') and isinstance(value, str)
    ]


def _effective(value: Any) -> Any:
    """Settings without the keys that change no result."""
    if isinstance(value, Mapping):
        return {key: _effective(item) for key, item in value.items() if key not in _WITHOUT_EFFECT}
    return [_effective(item) for item in value] if isinstance(value, (list, tuple)) else value


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _strings(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _strings(item)


def _is_small_file(text: str) -> bool:
    """Whether a text names a file that is hashed at every start; weights are left to `weights_identity`."""
    try:
        return Path(text).is_file() and Path(text).stat().st_size < 2**20
    except (OSError, ValueError):  # a text that cannot be a path
        return False
