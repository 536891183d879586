"""Reading a config, and changing the settings that flags of commands change."""

from __future__ import annotations

import copy
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.utils import import_modules_from_strings

from .checks import check_parameters, find_registered
from .compat.external_configs import find_external
from .datasets.pipelines import choose_bands
from .errors import ConfigError, MissingFileError, UsageError
from .models.text import find_vocabulary
from .options import check_options
from .paths import PACKAGE, config_path, scenes_root


def load_config(name: str | Path, options: Mapping | None = None, own_modules: bool = False) -> Config:
    """Read a config by its path or name, and make it ready to be built.

    A relative vocabulary is looked for beside the config file first.

    Args:
        name: A path, a name such as `sclip_voc21`, or MMEngine's name of a config that another package ships, such as
            `mmseg::segformer/segformer_mit-b0_8xb2-160k_ade20k-512x512.py`.
        options: Settings to override, by dotted names.
        own_modules: Let `custom_imports` find modules beside the config and in the current folder, after all other
            places. Only the command line does so; elsewhere the user's `sys.path` decides.

    Raises:
        MissingFileError: There is no such config, or no such vocabulary.
        ConfigError: An option or a part of the model does not fit the config.
    """
    path = _find(name)
    with _importing_from(*((path.resolve().parent, Path.cwd()) if own_modules else ())):
        config = _read(path)
        override(config, options or {})
    for key in ('model', 'test_dataloader'):
        if not isinstance(config.get(key), Mapping):
            raise ConfigError(
                f'{path} has no {key}, or it is not a dict. Start from a shipped config: _base_ = [...], or copy one '
                'that `mmseg-sclip configs` lists.'
            )
    backbone, head = config.model.get('backbone'), named_head(config)
    for where, part in (('model', config.model), ('model.backbone', backbone), ('model.decode_head', head)):
        if isinstance(part, Mapping) and isinstance(part.get('type'), str):
            cls = find_registered(where, part['type'])
            check_parameters(f'{where} ({cls.__name__})', cls, [key for key in part if key[0] != '_'])
    if isinstance(head.get('vocabulary'), str):
        head.vocabulary = str(find_vocabulary(head.vocabulary, [path.resolve().parent]))
    return config


def named_head(config: Config) -> Mapping:
    """The decode head of a model, the last one of a cascade; empty for a model of MMSegmentation that has none."""
    head = config.model.get('decode_head')
    if isinstance(head, (list, tuple)) and head:
        head = head[-1]
    return head if isinstance(head, Mapping) else {}


def override(config: Config, options: Mapping) -> None:
    """Change settings of a config.

    Args:
        config: It is changed.
        options: By dotted names.

    Raises:
        ConfigError: An option does not fit the config.
    """
    if options:
        check_options(config, options)
        config.merge_from_dict(dict(options))
        if any(key.partition('.')[0] == 'custom_imports' for key in options) and config.custom_imports:
            _import(config.custom_imports)


def _import(modules: Mapping) -> None:
    """Import what an option names, as MMEngine does while it reads a file."""
    try:
        import_modules_from_strings(**modules)
    except ImportError as error:
        raise ImportError(f'Failed to import custom modules from {modules}') from error


def _find(name: str | Path) -> Path:
    path = Path(name).expanduser()
    if path.is_file():
        return path
    if '::' in str(name):
        return find_external(str(name))
    # A path in our repository names a shipped config from anywhere.
    shipped = Path(*path.parts[1:]) if path.parts[:1] == ('configs',) else path
    if path.suffix == '.py' and (path.is_absolute() or len(shipped.parts) > 2):
        raise MissingFileError(f'There is no config {path.absolute()}. `mmseg-sclip configs` lists the shipped ones.')
    return config_path(shipped.as_posix())


@contextmanager
def _importing_from(*folders: Path) -> Iterator[None]:
    """Search these folders for modules meanwhile, after the places that are searched already.

    No longer than that: libraries try to import modules that need not exist, and must not find a file of that name in
    the user's folder.
    """
    added = [str(folder) for folder in folders if str(folder) not in sys.path]
    # The folder of our own script is left out: its train.py is not the module `train` that a config may name.
    tools = [entry for entry in sys.path if entry in map(str, (PACKAGE.parent / 'tools', PACKAGE / '.mim' / 'tools'))]
    for entry in tools if folders else ():
        sys.path.remove(entry)
    sys.path.extend(added)
    try:
        yield
    finally:
        for entry in added:
            sys.path.remove(entry)
        sys.path[:0] = tools if folders else ()


@contextmanager
def each_file_read_once() -> Iterator[None]:
    """Let MMEngine read each file only once meanwhile, for many configs that have their parts in common."""
    original = Config._file2dict
    known: dict[tuple, tuple] = {}

    def read(filename: str, *args: Any, **more: Any) -> tuple:
        key = (os.path.abspath(filename), str(args), str(more))
        if key not in known:
            known[key] = original(filename, *args, **more)
        return copy.deepcopy(known[key])

    Config._file2dict = staticmethod(read)
    try:
        yield
    finally:
        Config._file2dict = staticmethod(original)


def _read(path: Path) -> Config:
    try:
        return Config.fromfile(path)
    except Exception as error:  # a config is a program: it may raise anything
        if str(error).startswith('Failed to import custom modules'):
            raise
        raise ConfigError(f'The config {path} cannot be read ({type(error).__name__}: {error}). Correct it.') from error


def input_files(config: Config) -> list[str]:
    """What a run reads, as `outputs.refuse_inputs` takes it, before the files of its dataset are listed.

    The config file, vocabulary, all weights and checkpoint; of the datasets the split files and the folders, and the
    folder of the painted scenes. What is not a path here, such as the tag of weights, is harmless in the list.
    """
    clip, head = config.model.get('clip') or {}, named_head(config)
    named = [config.filename, config.get('load_from'), head.get('vocabulary')]
    named += [value for companion in (config.model.get('companions') or {}).values() for value in companion.values()]
    named += [str(value).removeprefix('local-dir:') for key, value in clip.items() if key != 'cache_dir']
    for loader in ('test_dataloader', 'train_dataloader'):
        dataset = (config.get(loader) or {}).get('dataset') or {}
        prefixes = (dataset.get('data_prefix') or {}).values()
        parts = [part for part in (*prefixes, dataset.get('ann_file')) if isinstance(part, str)]
        if isinstance(dataset.get('data_root'), str):
            named += [str(Path(dataset['data_root'], part)) for part in parts]
    return [str(scenes_root()), *(str(path) for path in named if path and isinstance(path, (str, Path)))]


def apply_pamr(config: Config, steps: int | None) -> None:
    """Put `--pamr STEPS` in front of the model's refinements at original size; 0 takes PAMR out, None changes nothing.

    Raises:
        ConfigError: The refinements are no list of dicts.
    """
    if steps is None:
        return
    test_cfg = config.model.setdefault('test_cfg', {})
    refine = test_cfg.get('refine') or ()
    if not all(isinstance(entry, Mapping) and 'type' in entry for entry in refine):
        raise ConfigError(f'model.test_cfg.refine is {refine!r}; it must be a list such as [dict(type=...)].')
    kinds = [find_registered('An entry of model.test_cfg.refine', entry['type']) for entry in refine]
    first = [entry for entry, kind in zip(refine, kinds, strict=True) if getattr(kind, 'at_input', False)]
    others = [entry for entry in refine if entry not in first and entry['type'] != 'PAMR']
    test_cfg['refine'] = [*first, *[dict(type='PAMR', steps=steps)] * (steps != 0), *others]


def apply_data_flags(
    config: Config, data_root: str | None, max_images: int | None, bands: Sequence[int] | None = None
) -> None:
    """Put `--data-root`, `--max-images` and `--bands` into the test dataset.

    `--max-images` takes the first of a config's `indices`.

    Raises:
        UsageError: There would be less than one image.
        ConfigError: The dataset wraps others, and takes neither.
    """
    dataset = config.test_dataloader.dataset
    if max_images is not None and max_images < 1:
        raise UsageError(f'--max-images is {max_images}; it must be at least 1.')
    for flag, value, key in (('--data-root', data_root, 'data_root'), ('--max-images', max_images, 'indices')):
        if value is not None and ('datasets' in dataset or 'dataset' in dataset):
            raise ConfigError(
                f'{flag} does not fit {dataset.type}, which holds other datasets. Leave it out, and set {key} of the '
                'datasets inside.'
            )
    choose_bands(config, bands)
    if data_root:
        dataset.data_root = data_root
    if max_images is None:
        return
    chosen = dataset.get('indices')
    if chosen is None:
        dataset.indices = max_images
    else:
        dataset.indices = min(chosen, max_images) if isinstance(chosen, int) else chosen[:max_images]


def check_is_clip(config: Config) -> None:
    """Refuse a model that is not a CLIP of this package, for commands that look inside it.

    Raises:
        ConfigError: With the model's type.
    """
    if 'clip' not in config.model or 'vocabulary' not in named_head(config):
        raise ConfigError(
            f'The model of {config.filename} is of type {config.model.get("type")}, and this command looks inside a '
            'CLIP (model.clip). Name a config of a SCLIPSegmentor; `mmseg-sclip configs` lists the shipped ones.'
        )


def check_checkpoint(config: Config, remedy: str) -> None:
    """Look for the checkpoint of `load_from` before anything large is done.

    Args:
        config: One without `load_from` has nothing to be looked for.
        remedy: What to do about a missing one, as a whole sentence.

    Raises:
        MissingFileError: It is not an address, and not there.
    """
    checkpoint = config.get('load_from')
    if checkpoint and '://' not in str(checkpoint) and not Path(checkpoint).is_file():
        raise MissingFileError(f'There is no checkpoint {checkpoint}. {remedy}')


def find_device(name: str | None) -> torch.device | None:
    """The device that `--device` names, tried out; None for MMEngine's choice.

    Raises:
        UsageError: This machine has no such device.
    """
    if name is None:
        return None
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()  # the meta device can make tensors, but holds no numbers
    except Exception as error:  # torch raises RuntimeError, AssertionError and more
        there = ['cpu', *(f'cuda:{i}' for i in range(torch.cuda.device_count()))]
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UsageError(f'--device {name} cannot be used ({reason}). This machine has: {", ".join(there)}.') from error
    return device
