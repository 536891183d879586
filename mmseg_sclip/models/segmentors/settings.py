"""The `test_cfg` entry of a model config."""

from collections.abc import Mapping
from typing import Any

from mmengine.config import ConfigDict

from ...utils.checks import check_choice, check_keys, check_switch
from ..dense_crf import DEFAULTS as CRF_DEFAULTS

_DEFAULTS: dict[str, Any] = dict(
    mode='slide',
    crop_size=(224, 224),
    stride=(112, 112),
    whole_resize='direct',
    logit_scale=40,
    prob_thd=None,
    area_thd=None,
    pamr=dict(steps=0, dilations=(8, 16)),
    crf=CRF_DEFAULTS,
    window_batch=16,
    keep_scores=False,
)


def complete_test_cfg(config: Mapping | None, background_index: int | None) -> ConfigDict:
    """Check a `test_cfg` and fill in SCLIP's defaults.

    Args:
        config: The user's settings. `mode` is 'slide' or 'whole'; `crop_size` and `stride` are (height,
            width) in pixels of the network's input; `logit_scale` multiplies the cosines; `prob_thd`
            (0..1, 0 or None for off) and `area_thd` (0..1, None for off) are the two thresholds of
            `postprocess`; `window_batch` windows go through the network at once; `keep_scores` attaches
            `seg_logits`; `whole_resize` is 'direct' or 'input' (through the network's input size);
            `pamr` refines the cosines and `crf` the class scores (see `dense_crf`), `steps=0` or None for off.
        background_index: Thresholds need a background class.

    Raises:
        ValueError: A key is unknown or a value is not allowed.
    """
    config = dict(config or {})
    check_keys('model.test_cfg', config, _DEFAULTS)
    full = ConfigDict({**_DEFAULTS, **config})
    check_choice('model.test_cfg.mode', full.mode, ('slide', 'whole'))
    check_choice('model.test_cfg.whole_resize', full.whole_resize, ('direct', 'input'))
    for key in ('crop_size', 'stride'):
        value = full[key]
        if _is_whole(value):
            full[key] = value = (value, value)
        if (
            not isinstance(value, (tuple, list))
            or len(value) != 2
            or not all(_is_whole(side) and side > 0 for side in value)
        ):
            raise ValueError(
                f'model.test_cfg.{key} is {value!r}; it must be (height, width) in pixels, two positive whole numbers.'
            )
    for i, side in enumerate(('height', 'width')):
        if full.stride[i] > full.crop_size[i]:
            raise ValueError(
                f'model.test_cfg.stride is {tuple(full.stride)} and crop_size {tuple(full.crop_size)}: a '
                f'stride beyond the crop leaves pixels uncovered ({side}). Use a stride of at most the crop.'
            )
    if not _is_whole(full.window_batch) or full.window_batch < 1:
        raise ValueError(f'model.test_cfg.window_batch is {full.window_batch!r}; it must be a whole number from 1 on.')
    if not isinstance(full.logit_scale, (int, float)) or not full.logit_scale > 0:
        raise ValueError(f'model.test_cfg.logit_scale is {full.logit_scale!r}; it must be a positive number.')
    check_switch('model.test_cfg.keep_scores', full.keep_scores)
    _check_thresholds(full, background_index)
    for key in ('pamr', 'crf'):
        if full[key] is not None:
            check_keys(f'model.test_cfg.{key}', full[key], _DEFAULTS[key])
            full[key] = {**_DEFAULTS[key], **full[key]}
            steps = full[key]['steps']
            if not _is_whole(steps) or steps < 0:
                raise ValueError(f'model.test_cfg.{key}.steps is {steps!r}; it must be a whole number, 0 for off.')
    if full.pamr is not None:
        _check_dilations(full.pamr['dilations'])
    return full


def is_on(refinement: Mapping | None) -> bool:
    """Whether a checked `pamr` or `crf` does anything."""
    return refinement is not None and refinement['steps'] > 0


def _check_thresholds(full: Mapping, background_index: int | None) -> None:
    for key in ('prob_thd', 'area_thd'):
        value = full[key]
        if value is None:
            continue
        if not isinstance(value, (int, float)) or not 0 <= value <= 1:
            raise ValueError(f'model.test_cfg.{key} is {value!r}; it must be a number from 0 to 1, or None for off.')
        if background_index is None and (value or key == 'area_thd'):
            raise ValueError(
                f'model.test_cfg.{key} is {value} but decode_head.background_index is None. The threshold would send '
                'pixels to a class that is no background, and the numbers would be wrong. Set background_index to the '
                f'class that is the background (0 in VOC21, Context60 and COCO-Object), or {key}=None.'
            )


def _check_dilations(dilations: Any) -> None:
    if not isinstance(dilations, (tuple, list)) or not dilations or not all(_is_whole(d) and d > 0 for d in dilations):
        raise ValueError(
            f'model.test_cfg.pamr.dilations is {dilations!r}; it must hold one or more positive whole numbers '
            '(pixels), such as (8, 16).'
        )


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
