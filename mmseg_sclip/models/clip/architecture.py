"""From a model name to the description of an architecture; no weights are touched."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.logging import print_log

from ...compat import open_clip
from ...demo import ARCHITECTURE
from ...errors import BadFileError, ConfigError, MissingFileError, nearest
from ..hub import NotOnHub, fetch_from_hub
from .config import TOWERS, ClipConfig
from .support import activation_message, open_clip_name

_DESCRIPTION = 'open_clip_config.json'


@dataclass(frozen=True)
class Architecture:
    """An open_clip model description.

    Attributes:
        name: As the user wrote it.
        model: open_clip's model config: embed_dim, vision_cfg, text_cfg, quick_gelu, ...
        mean: Mean of the images in RGB, for values in 0..1.
        std: Standard deviation of the images in RGB, for values in 0..1.
        trained_with_quick_gelu: What the tag of open_clip says of its weights; None where there is no tag.
    """

    name: str
    model: dict[str, Any]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    trained_with_quick_gelu: bool | None = None

    @property
    def quick_gelu(self) -> bool:
        """Whether the towers are built with QuickGELU."""
        return bool(self.model.get('quick_gelu', False))


def find_architecture(config: ClipConfig) -> Architecture:
    """Resolve a name, a file, a folder or a repository; of the latter only the description is fetched.

    Raises:
        ConfigError: The name is unknown.
        MissingFileError: A file or a folder is missing, or the description cannot be fetched.
        BadFileError: The file is not such a description.
    """
    name = config.model_name
    if name == 'builtin:demo':
        return _describe(name, _read_json(ARCHITECTURE))
    if name.startswith('builtin:'):
        raise ConfigError(f"model.clip.model_name is '{name}'; the only built-in model is 'builtin:demo'.")
    if config.folder is not None:
        if not config.folder.is_dir():
            raise MissingFileError(f"There is no folder {config.folder}, which model.clip.model_name='{name}' names.")
        return _describe(name, _read_json(config.folder / _DESCRIPTION))
    if name.startswith('hf-hub:'):
        try:
            path = fetch_from_hub(name.removeprefix('hf-hub:'), [_DESCRIPTION], config.cache_dir)
        except NotOnHub as error:
            raise MissingFileError(
                f"The description of '{name}' is missing and could not be downloaded ({error}): copy the repository "
                'into a folder, and name that with --model-name local-dir:FOLDER (model.clip.model_name in a config).'
            ) from error
        return _describe(name, _read_json(path))
    if name.endswith('.json'):
        return _describe(name, _read_json(Path(name).expanduser()))
    return _from_name(config)


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise MissingFileError(
            f'There is no model description {path}. Give an open_clip model JSON, or a name from '
            'open_clip.list_models().'
        )
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
    except ValueError as error:
        raise BadFileError(f'{path} is not valid JSON ({error}). It must be an open_clip model description.') from error
    model = content.get('model_cfg', content) if isinstance(content, dict) else {}
    if not {'embed_dim', 'vision_cfg', 'text_cfg'} <= set(model):
        raise BadFileError(
            f"{path} is not an open_clip model description: it must hold 'embed_dim', 'vision_cfg' and "
            "'text_cfg' (or a 'model_cfg' with them)."
        )
    return content


def _describe(name: str, content: Mapping[str, Any], tag: Mapping[str, Any] | None = None) -> Architecture:
    preprocess = content.get('preprocess_cfg', {}) if tag is None else tag
    model = copy.deepcopy(dict(content.get('model_cfg', content)))
    model.pop('preprocess_cfg', None)
    model['vision_cfg']['patch_dropout'] = 0.0  # only matters in training
    return Architecture(
        name,
        model,
        tuple(preprocess.get('mean', open_clip.OPENAI_DATASET_MEAN)),
        tuple(preprocess.get('std', open_clip.OPENAI_DATASET_STD)),
        bool(tag.get('quick_gelu', False)) if tag else None,
    )


def _from_name(config: ClipConfig) -> Architecture:
    """An architecture of open_clip, with the mean and std of the weights where `pretrained` is a tag."""
    name = open_clip_name(config.model_name)
    model = open_clip.get_model_config(name)
    if model is None:
        raise ConfigError(
            f"model.clip.model_name is '{config.model_name}', which is not an architecture of open_clip, a "
            f'file or a schema.{nearest(name, open_clip.list_models())} All names: '
            "open_clip.list_models(); 'local-dir:' and 'hf-hub:' name folders and repositories."
        )
    tag = open_clip.get_pretrained_cfg(name, config.pretrained) if config.pretrained else {}
    return _describe(config.model_name, model, tag)


def check_tag(config: ClipConfig, architecture: Architecture) -> None:
    """Compare the activation with what a tag of open_clip says of its weights.

    Raises:
        ConfigError: They were trained with the other one.
    """
    if architecture.trained_with_quick_gelu is not None:
        weights = f"The weights '{config.pretrained}'"
        refuse_activation(config, architecture, architecture.trained_with_quick_gelu, weights)


def check_activation(config: ClipConfig, architecture: Architecture, weights: Path, from_openai: bool | None) -> None:
    """OpenAI's weights need QuickGELU; of other files, which do not tell, say which activation is in use.

    Raises:
        ConfigError: OpenAI's weights would run with GELU.
    """
    if from_openai:
        refuse_activation(config, architecture, True, f'The OpenAI weights {weights}')
    elif architecture.trained_with_quick_gelu is None and not config.model_name.startswith('builtin:'):
        print_log(
            f'{weights.name} does not tell its activation; {architecture.name} runs it with '
            f'{"QuickGELU" if architecture.quick_gelu else "GELU"}.',
            logger='current',
        )


def refuse_activation(config: ClipConfig, architecture: Architecture, wanted: bool, weights: str) -> None:
    """Refuse an architecture with another activation than its weights, unless the config overrides it.

    Args:
        config: With the overrides.
        architecture: What is built.
        wanted: Whether the weights need QuickGELU.
        weights: What the message shall call them.

    Raises:
        ConfigError: It has the other one.
    """
    overridden = all(config.override('activation', tower) for tower in TOWERS)
    if architecture.quick_gelu != wanted and not overridden:
        raise ConfigError(activation_message(weights, wanted, architecture.name))
