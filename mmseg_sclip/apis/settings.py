"""The config of an inferencer: a shipped config with the user's words and wishes in it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from ..config import apply_pamr, load_config
from ..errors import ConfigError
from ..model_flags import apply_model_flags
from ..models.segmentors.settings import InferenceSettings
from ..models.text import Vocabulary
from ..visual.attention_names import parse_attention

# Own pictures are like those of Pascal VOC; all numbers come from its configs.
WITH_BACKGROUND, WITHOUT_BACKGROUND = 'sclip_voc21', 'sclip_voc20'
_OF_BACKGROUND = ('logit_scale', 'prob_thd', 'area_thd')


def build_config(
    words: Vocabulary | None,
    config: str | Path | None = None,
    model_name: str | None = None,
    pretrained: str | None = None,
    attention: str | Mapping | None = None,
    pamr: int | None = None,
    cfg_options: Mapping | None = None,
    weights: Mapping[str, str] | None = None,
) -> Config:
    """Put a user's choices into a config.

    Args:
        words: None leaves the config's own classes.
        config: Name or path of a config; None for SCLIP's on Pascal VOC, with or without background as the words.
        model_name: As in `SCLIPInferencer`.
        pretrained: As in `SCLIPInferencer`.
        attention: As in `SCLIPInferencer`.
        pamr: As in `SCLIPInferencer`.
        cfg_options: Win over what the words bring with them.
        weights: As in `SCLIPInferencer`.

    Raises:
        ConfigError: A choice does not fit the config.
        MissingFileError: There is no such config.
    """
    background = words is not None and words.background_index is not None
    loaded = load_config(_name(config, background), cfg_options)
    if 'clip' not in loaded.model or 'decode_head' not in loaded.model:
        raise ConfigError(f'The model of {config} has no clip or no decode_head: it is not an SCLIPSegmentor.')
    apply_model_flags(loaded, model_name, pretrained, weights)
    if attention is not None:
        _set_attention(loaded, attention, config)
    apply_pamr(loaded, pamr)
    test_cfg = loaded.model.setdefault('test_cfg', {})
    if words is not None:
        loaded.model.decode_head.update(
            vocabulary=list(words.classes), class_names=list(words.class_names), background_index=words.background_index
        )
        test_cfg.update(thresholds(background, config, cfg_options))
    return loaded


def thresholds(background: bool, config: str | Path | None, cfg_options: Mapping | None) -> dict[str, Any]:
    """`logit_scale`, `prob_thd` and `area_thd` for own words.

    Without a background there are no thresholds; with one they are the config's, or SCLIP's where it has none. A head
    that gives class scores, with a `logit_scale` of None, keeps its own: SCLIP's are made for probabilities.

    Args:
        background: Whether there is one.
        config: As in `build_config`.
        cfg_options: As in `build_config`; what they set stays.
    """
    own = load_config(_name(config, background), cfg_options).model.get('test_cfg')
    settings = {key: getattr(InferenceSettings.parse(own), key) for key in _OF_BACKGROUND}
    fixed = {key: settings[key] for key in _OF_BACKGROUND if f'model.test_cfg.{key}' in (cfg_options or {})}
    free = {key: value for key, value in settings.items() if key not in fixed}
    if not background:
        return {**settings, 'prob_thd': None, 'area_thd': None, **fixed}
    if settings['logit_scale'] is None or free.get('prob_thd') or free.get('area_thd') is not None:
        return settings
    usual = load_config(WITH_BACKGROUND).model.test_cfg
    return {**{key: usual[key] for key in _OF_BACKGROUND}, **fixed}


def _name(config: str | Path | None, background: bool) -> str:
    return str(config or (WITH_BACKGROUND if background else WITHOUT_BACKGROUND))


def _set_attention(config: Config, attention: str | Mapping, name: str | Path | None) -> None:
    if config.model.backbone.get('decoder') is None:  # the backbone's default is SCLIP's
        config.model.backbone.decoder = load_config(WITHOUT_BACKGROUND).model.backbone.decoder
    decoder = config.model.backbone.decoder
    while 'attention' not in decoder and 'decoder' in decoder:  # a decoder that wraps another one
        decoder = decoder.decoder
    if 'attention' not in decoder:
        raise ConfigError(
            f'The decoder {decoder.get("type")} of {name} has no attention that could be exchanged. Leave attention '
            'out, or take another config.'
        )
    decoder.attention = parse_attention(attention) if isinstance(attention, str) else dict(attention)
