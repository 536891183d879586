"""The model config of an inferencer: a shipped config with the user's words and wishes in it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path

from mmcv.transforms import LoadAnnotations, LoadImageFromFile
from mmengine.config import Config
from mmseg.registry import TRANSFORMS

from ..cli.configuring import apply_clip_flags, load_config
from .words import Words

# Own pictures are like those of Pascal VOC; all numbers come from its configs.
WITH_BACKGROUND, WITHOUT_BACKGROUND = 'sclip_voc21', 'sclip_voc20'
_TEST_CFG = 'model.test_cfg.'
_OF_BACKGROUND = ('logit_scale', 'prob_thd', 'area_thd')


def build_config(
    words: Words | None,
    config: str | Path | None = None,
    model_name: str | None = None,
    pretrained: str | None = None,
    attention: str | Mapping | None = None,
    pamr: int | None = None,
    cfg_options: Mapping | None = None,
) -> Config:
    """Put a user's choices into a config.

    Args:
        words: None leaves the config's own classes.
        config: Name or path of a config; None for SCLIP's on Pascal VOC, with or without background as the words.
        model_name: As in `SCLIPInferencer`, like all below.
        pretrained: Tag or file of weights.
        attention: Name or config.
        pamr: Steps.
        cfg_options: Win over what the words bring with them.

    Raises:
        ValueError: A choice does not fit the config.
        FileNotFoundError: There is no such config.
    """
    options = dict(cfg_options or {})
    if config is None:
        config = WITHOUT_BACKGROUND if words is None or words.background_index is None else WITH_BACKGROUND
    loaded = load_config(str(config), options)
    if 'clip' not in loaded.model or 'decode_head' not in loaded.model:
        raise ValueError(f'The model of {config} has no clip or no decode_head: it is no SCLIPSegmentor.')
    apply_clip_flags(loaded, model_name, pretrained)
    loaded.model.clip.keep_text = True
    if attention is not None:
        _set_attention(loaded, attention, config)
    test_cfg = loaded.model.setdefault('test_cfg', {})
    if pamr is not None:
        test_cfg['pamr'] = {**(test_cfg.get('pamr') or {}), 'steps': pamr}
    if words is not None:
        loaded.model.decode_head.update(
            vocabulary=list(words.phrases), class_names=list(words.names), background_index=words.background_index
        )
        fixed = {key.removeprefix(_TEST_CFG) for key in options if key.startswith(_TEST_CFG)}
        changes = _thresholds({**test_cfg, **dict.fromkeys(fixed)}, words.background_index is not None)
        test_cfg.update({key: value for key, value in changes.items() if key not in fixed})
    return loaded


def steps_behind_loading(steps: Sequence[Mapping]) -> list[Mapping]:
    """A test pipeline without what reads images and labels."""

    def is_loading(step: Mapping) -> bool:
        cls = TRANSFORMS.get(step['type']) if isinstance(step['type'], str) else step['type']
        return inspect.isclass(cls) and issubclass(cls, (LoadImageFromFile, LoadAnnotations))

    return [step for step in steps if not is_loading(step)]


def _thresholds(test_cfg: Mapping, background: bool) -> dict:
    """What has to change: without a background no thresholds, with one the config's own or else SCLIP's."""
    if not background:
        return dict(prob_thd=None, area_thd=None)
    if test_cfg.get('prob_thd') or test_cfg.get('area_thd') is not None:
        return {}
    usual = load_config(WITH_BACKGROUND).model.test_cfg
    return {key: usual[key] for key in _OF_BACKGROUND}


def _set_attention(config: Config, attention: str | Mapping, name: str | Path) -> None:
    decoder = config.model.backbone.get('decoder', {})
    if 'attention' not in decoder:
        raise ValueError(
            f'The decoder {decoder.get("type")} of {name} has no attention that could be exchanged. Leave attention '
            'out, or take another config.'
        )
    decoder.attention = dict(type=attention) if isinstance(attention, str) else dict(attention)
