"""The `clip` entry of a model config."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch

from ...checks import check_choice, check_keys, check_switch
from ...errors import ConfigError

PRECISIONS = {'fp32': torch.float32, 'fp16': torch.float16, 'bf16': torch.bfloat16}
SCHEMAS = ('builtin:', 'local-dir:', 'hf-hub:')
TOWERS = ('image', 'text')


@dataclass(frozen=True)
class ClipConfig:
    """Which CLIP, and how it is loaded: one place for both towers.

    Attributes:
        model_name: An open_clip architecture, the path of an open_clip model JSON, 'local-dir:PATH',
            'hf-hub:ORG/REPO', or 'builtin:demo' for the tiny CLIP that ships with the package.
        pretrained: A tag of open_clip, a weights file, or None. The schemas bring their own weights,
            so it must be None with them; without a schema None means random weights.
        precision: Of both towers' weights and products: 'fp32', 'fp16' or 'bf16'. LayerNorms, softmaxes, the
            products with the text and all after them stay in float32. A number in a table is one of 'fp32'
            unless it says otherwise.
        keep_text: Keep the text tower in memory after the vocabulary is encoded.
        activation: 'gelu' or 'quick_gelu' to override the architecture's on purpose, in both towers, or in one
            of them with dict(image=...) or dict(text=...).
        norm_eps: The epsilon of every LayerNorm, to override the architecture's on purpose, in both towers, or in
            one of them with dict(image=...) or dict(text=...).
        cache_dir: Where weights are looked for and downloaded to, and encoded phrases are kept; None for the
            libraries' own caches and mmseg_sclip's.
    """

    model_name: str
    pretrained: str | None = None
    precision: str = 'fp32'
    keep_text: bool = False
    activation: str | Mapping[str, str] | None = None
    norm_eps: float | Mapping[str, float] | None = None
    cache_dir: str | None = None

    @classmethod
    def parse(cls, config: Mapping[str, Any]) -> ClipConfig:
        """Check a user's dict.

        Raises:
            ConfigError: A key is unknown, or a value is not allowed.
        """
        example = "dict(model_name='ViT-B-16-quickgelu', pretrained='openai')"
        if not isinstance(config, Mapping):
            raise ConfigError(f'model.clip must be a dict such as {example}, but is {config!r}.')
        check_keys('model.clip', config, [field.name for field in fields(cls)])
        values = {key: os.fspath(value) if isinstance(value, os.PathLike) else value for key, value in config.items()}
        name, pretrained = values.get('model_name'), values.get('pretrained')
        if not isinstance(name, str) or not name:
            raise ConfigError(
                f'model.clip.model_name is {name!r}. Give an open_clip architecture or the path of a model JSON, such '
                f'as {example}.'
            )
        if pretrained is not None and name.startswith(SCHEMAS):
            raise ConfigError(
                f"model.clip.model_name is '{name}', which brings its own weights, so pretrained must be None but is "
                f"'{pretrained}'. Set pretrained=None."
            )
        parsed = cls(**values)
        check_choice('model.clip.precision', parsed.precision, PRECISIONS)
        check_switch('model.clip.keep_text', parsed.keep_text)
        for tower in TOWERS:
            check_choice('model.clip.activation', parsed.override('activation', tower), (None, 'gelu', 'quick_gelu'))
            eps = parsed.override('norm_eps', tower)
            if eps is not None and not 0 < eps < math.inf:
                raise ConfigError(f'model.clip.norm_eps is {eps!r}; it must be a positive number or None.')
        return parsed

    @property
    def folder(self) -> Path | None:
        """The folder that 'local-dir:PATH' names; None for every other model."""
        schema, _, place = self.model_name.partition(':')
        return Path(place).expanduser() if schema == 'local-dir' else None

    def override(self, key: str, tower: str) -> Any:
        """The override `key` ('activation' or 'norm_eps') for one tower ('image' or 'text'), None for none.

        Raises:
            ConfigError: It is a dict with other keys.
        """
        value = getattr(self, key)
        if isinstance(value, Mapping):
            check_keys(f'model.clip.{key}', value, TOWERS)
            return value.get(tower)
        return value
