"""From a model name to an open_clip architecture and its weights file."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import open_clip
from open_clip.pretrained import download_pretrained_from_hf

from ...demo import ARCHITECTURE, WEIGHTS
from ...utils.checks import nearest
from .config import TOWERS, ClipConfig
from .support import activation_message, refuse_unsupported

_HUB_FILES = (
    'open_clip_model.safetensors',
    'open_clip_pytorch_model.safetensors',
    'open_clip_pytorch_model.bin',
    'open_clip_pytorch_model.pth',
    'model.safetensors',
    'pytorch_model.bin',
    'pytorch_model.pth',
    'model.pth',
)
_OFFLINE = (
    'Without a connection give a file instead: clip=dict(pretrained="/path/to/weights.pt") or '
    '--pretrained FILE; behind a mirror set HF_ENDPOINT.'
)


@dataclass(frozen=True)
class Architecture:
    """An open_clip model description with the place of its weights.

    Attributes:
        name: As the user wrote it.
        model: open_clip's model config: embed_dim, vision_cfg, text_cfg, quick_gelu, ...
        mean: Of the images, RGB, for values in 0..1.
        std: Likewise.
        weights: The weights file, or None for random weights.
        tag_quick_gelu: Whether a tag's weights were trained with QuickGELU; None where no tag says it.
    """

    name: str
    model: dict[str, Any]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    weights: Path | None
    tag_quick_gelu: bool | None = None

    @property
    def quick_gelu(self) -> bool:
        """Whether the towers are built with QuickGELU."""
        return bool(self.model.get('quick_gelu', False))


def find_architecture(config: ClipConfig) -> Architecture:
    """Resolve names, files, folders and tags; downloads weights where a tag or a hub asks for it.

    Raises:
        ValueError: The name or the tag is unknown, or the architecture cannot work here.
        FileNotFoundError: A file or a folder is missing, or a download fails.
    """
    name = config.model_name
    if name == 'builtin:demo':
        found = _from_json(name, ARCHITECTURE, WEIGHTS)
    elif name.startswith('builtin:'):
        raise ValueError(f"model.clip.model_name is '{name}'; the only built-in model is 'builtin:demo'.")
    elif name.startswith('local-dir:'):
        found = _from_folder(name, Path(name.removeprefix('local-dir:')).expanduser())
    elif name.startswith('hf-hub:'):
        found = _from_hub(name, name.removeprefix('hf-hub:'), config.cache_dir)
    elif name.endswith('.json'):
        content = _read_json(Path(name).expanduser())  # before the weights, so that a misspelt path is named first
        found = _from_content(name, content, _weights_file(config, tags=()))
    else:
        found = _from_name(config)
    found.model['vision_cfg']['patch_dropout'] = 0.0  # only matters in training
    return found


def _read_json(path: Path) -> dict:
    if not path.is_file():
        raise FileNotFoundError(
            f'There is no model description {path}. Give an open_clip model JSON, or a name from '
            'open_clip.list_models().'
        )
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
    except ValueError as error:
        raise ValueError(f'{path} is not valid JSON ({error}). It must be an open_clip model description.') from error
    model = content.get('model_cfg', content) if isinstance(content, dict) else {}
    if not {'embed_dim', 'vision_cfg', 'text_cfg'} <= set(model):
        raise ValueError(
            f"{path} is no open_clip model description: it must hold 'embed_dim', 'vision_cfg' and "
            "'text_cfg' (or a 'model_cfg' with them)."
        )
    return content


def _from_content(name: str, content: dict, weights: Path | None) -> Architecture:
    preprocess = content.get('preprocess_cfg', {})
    model = {key: value for key, value in content.get('model_cfg', content).items() if key != 'preprocess_cfg'}
    refuse_unsupported(name, model)
    return Architecture(
        name,
        copy.deepcopy(model),
        tuple(preprocess.get('mean', open_clip.OPENAI_DATASET_MEAN)),
        tuple(preprocess.get('std', open_clip.OPENAI_DATASET_STD)),
        weights,
    )


def _from_json(name: str, path: Path, weights: Path | None) -> Architecture:
    return _from_content(name, _read_json(path), weights)


def _from_folder(name: str, folder: Path) -> Architecture:
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {folder}, which model.clip.model_name='{name}' names.")
    present = [folder / file for file in _HUB_FILES if (folder / file).is_file()]
    others = sorted(path for suffix in ('*.safetensors', '*.bin', '*.pt', '*.pth') for path in folder.glob(suffix))
    if not present and len(others) != 1:
        raise FileNotFoundError(
            f'{folder} must hold one weights file (for example {_HUB_FILES[0]}), but holds '
            f'{len(others)}: {", ".join(path.name for path in others) or "none"}.'
        )
    return _from_json(name, folder / 'open_clip_config.json', (present or others)[0])


def _from_hub(name: str, repository: str, cache_dir: str | None) -> Architecture:
    try:
        config = download_pretrained_from_hf(repository, filename='open_clip_config.json', cache_dir=cache_dir)
        weights = download_pretrained_from_hf(repository, cache_dir=cache_dir)
    except Exception as error:  # the hub's client raises many kinds
        raise FileNotFoundError(f"'{name}' could not be fetched ({error}). {_OFFLINE}") from error
    return _from_json(name, Path(config), Path(weights))


def _from_name(config: ClipConfig) -> Architecture:
    name = config.model_name.replace('/', '-')
    model = open_clip.get_model_config(name)
    if model is None:
        raise ValueError(
            f"model.clip.model_name is '{config.model_name}', which is no architecture of open_clip, no "
            f'file and no schema.{nearest(name, open_clip.list_models())} All names: '
            "open_clip.list_models(); 'local-dir:' and 'hf-hub:' name folders and repositories."
        )
    refuse_unsupported(config.model_name, model)
    tag = open_clip.get_pretrained_cfg(name, config.pretrained) if config.pretrained else {}
    if not tag:
        return _from_content(
            config.model_name, model, _weights_file(config, open_clip.list_pretrained_tags_by_model(name))
        )
    quick_gelu = bool(tag.get('quick_gelu', False))
    _check_tag(config, bool(model.get('quick_gelu', False)), quick_gelu)
    try:
        weights = _download(tag, config.cache_dir)
    except Exception as error:  # network, disk and hub errors are of many kinds
        raise FileNotFoundError(
            f"The weights '{config.pretrained}' of {config.model_name} are in no cache and could "
            f'not be downloaded ({error}). {_OFFLINE}'
        ) from error
    found = _from_content(config.model_name, {**model, 'preprocess_cfg': tag}, weights)
    return replace(found, tag_quick_gelu=quick_gelu)


def _download(tag: dict, cache_dir: str | None) -> Path:
    """The file of a tag, out of a cache where it is in one."""
    try:
        return Path(open_clip.download_pretrained(tag, cache_dir=cache_dir))
    except Exception:
        # open_clip asks the hub only, but OpenAI's package and older versions of open_clip left archives behind.
        archive = Path(cache_dir or '~/.cache/clip').expanduser() / Path(tag.get('url', '')).name
        if not archive.is_file():
            raise
        return Path(open_clip.download_pretrained(tag, prefer_hf_hub=False, cache_dir=cache_dir))


def _check_tag(config: ClipConfig, quick_gelu: bool, wanted: bool) -> None:
    """Refuse a name whose activation differs from the tag's, before anything is downloaded."""
    overridden = all(config.override('activation', tower) for tower in TOWERS)
    if quick_gelu != wanted and not overridden:
        raise ValueError(activation_message(f"The weights '{config.pretrained}'", wanted, config.model_name))


def _weights_file(config: ClipConfig, tags: list[str] | tuple[str, ...]) -> Path | None:
    """The file that `pretrained` names."""
    if config.pretrained is None:
        return None
    path = Path(config.pretrained).expanduser()
    if path.is_file():
        return path
    known = f'Tags of this architecture: {", ".join(tags)}.' if tags else 'This architecture has no tags; give a file.'
    raise FileNotFoundError(
        f"model.clip.pretrained is '{config.pretrained}', which is neither a file nor a tag of "
        f'{config.model_name}.{nearest(config.pretrained, tags)} {known}'
    )
