"""Methods under one protocol: each of them on SCLIP's configs of the datasets."""

from __future__ import annotations

from mmengine.config import Config

from ..config import load_config
from ..paths import config_path, configs_root


def common_protocol(method: str, dataset: str) -> Config:
    """SCLIP's config of a dataset with the model part of a method, `_base_/models/METHOD.py`.

    Sizes, windows, normalisation, words, scale and thresholds are SCLIP's for every method; numbers that a paper tunes
    per dataset keep the value of the model part. Blocks, head, templates and refinements are the method's, and so is
    the whole image if the method cannot use windows. Heads that give class scores have no logit scale and no area
    threshold, which is made for probabilities that the background's words compete for. The config
    `METHOD_DATASET` is the method's own protocol.

    Args:
        method: Such as `clearclip`.
        dataset: Such as `voc21`.

    Raises:
        MissingFileError: There is no such method or dataset.
    """
    if not (configs_root() / '_base_' / 'models' / f'{method}.py').is_file():
        return load_config(f'{method}_{dataset}')  # such as CLIP, which is SCLIP's config with another attention
    config, general = load_config(f'sclip_{dataset}'), Config.fromfile(config_path(f'_base_/models/{method}')).model
    # The tiny CLIP of the demo has five blocks and small patches, so its configs name other blocks, and other padding.
    model = load_config(f'{method}_demo').model if dataset == 'demo' else general
    for key in ('vocabulary', 'class_names', 'background_index'):
        model.decode_head[key] = config.model.decode_head[key]
    settings = {key: general.test_cfg[key] for key in ('mode', 'whole_resize') if key in general.test_cfg}
    if 'window_multiple' in model.test_cfg:
        settings['window_multiple'] = model.test_cfg.window_multiple
    if general.test_cfg.logit_scale is None:  # the head gives no cosines
        # The area threshold counts labels before `prob_thd`, which gives these heads their background.
        settings.update(logit_scale=None, area_thd=None)
    kinds = {entry.type for entry in general.test_cfg.get('refine', ())}  # a demo's config may have more
    refine = [entry for entry in model.test_cfg.get('refine', ()) if entry.type in kinds]
    model.test_cfg = {**config.model.test_cfg, **settings, 'refine': refine}
    model.get('data_preprocessor', {}).pop('exact', None)  # images are normalised as SCLIP's
    config.model = model
    config.label = f'{method}_{dataset} (protocol of sclip)'
    return config
