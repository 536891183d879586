"""The `clip` entry of a model config."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields

import torch

from ...utils.checks import check_choice, check_keys, check_switch

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
            products with the text and all behind them stay in float32. A number in a table is one of 'fp32'
            unless it says otherwise.
        keep_text: Keep the text tower in memory after the vocabulary is encoded.
        activation: 'gelu' or 'quick_gelu' to override the architecture's on purpose, in both towers, or in one
            of them with dict(image=...) or dict(text=...).
        norm_eps: The epsilon of every LayerNorm, to override the architecture's on purpose; likewise.
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
    def parse(cls, config: Mapping) -> ClipConfig:
        """Check a user's dict.

        Raises:
            ValueError: A key is unknown, or a value is not allowed.
        """
        if not isinstance(config, Mapping):
            raise ValueError(
                "model.clip must be a dict such as dict(model_name='ViT-B-16-quickgelu', "
                f"pretrained='openai'), but is {config!r}."
            )
        check_keys('model.clip', config, [field.name for field in fields(cls)])
        config = {key: os.fspath(value) if isinstance(value, os.PathLike) else value for key, value in config.items()}
        if not isinstance(config.get('model_name'), str) or not config['model_name']:
            raise ValueError(
                f'model.clip.model_name is {config.get("model_name")!r}. Give an open_clip architecture such as '
                "'ViT-B-16-quickgelu', or the path of a model JSON."
            )
        parsed = cls(**config)
        check_switch('model.clip.keep_text', parsed.keep_text)
        for tower in TOWERS:
            check_choice('model.clip.activation', parsed.override('activation', tower), (None, 'gelu', 'quick_gelu'))
            eps = parsed.override('norm_eps', tower)
            if eps is not None and not eps > 0:
                raise ValueError(f'model.clip.norm_eps is {eps!r}; it must be a positive number or None.')
        check_choice('model.clip.precision', parsed.precision, PRECISIONS)
        if parsed.pretrained is not None and parsed.model_name.startswith(SCHEMAS):
            raise ValueError(
                f"model.clip.model_name is '{parsed.model_name}', which brings its own weights, so "
                f"pretrained must be None but is '{parsed.pretrained}'. Set pretrained=None."
            )
        return parsed

    def override(self, key: str, tower: str) -> str | float | None:
        """The override `key` ('activation' or 'norm_eps') for one tower ('image' or 'text').

        Raises:
            ValueError: It is a dict with other keys.
        """
        value = getattr(self, key)
        if isinstance(value, Mapping):
            check_keys(f'model.clip.{key}', value, TOWERS)
            return value.get(tower)
        return value
