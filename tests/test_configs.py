"""Every shipped config parses, fits its dataset and says what it said before; every method is built and predicts.

`python tests/test_configs.py` writes the digest of the resolved configs anew, where a change is meant.
"""

import copy
import hashlib
import json
import re
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import random_model
from mmengine.config import Config
from mmseg.registry import DATASETS, MODELS

from mmseg_sclip import paths
from mmseg_sclip.ablation.protocols import common_protocol
from mmseg_sclip.config import load_config
from mmseg_sclip.datasets.scenes import scene
from mmseg_sclip.datasets.views import views_of
from mmseg_sclip.models.text import load_vocabulary
from mmseg_sclip.models.text.class_names import dataset_meta

HOOKS = ['VocabularyCheckHook', 'SetupHook']
DIGEST = Path(__file__).parent / 'data' / 'configs.json'
# Short side, logit_scale, prob_thd, area_thd: SCLIP's official settings.
OFFICIAL = {
    'voc21': (336, 65, 0.1, 0.1),
    'voc20': (336, 40, None, None),
    'context60': (336, 50, 0.1, None),
    'context59': (336, 40, None, None),
    'coco_object': (336, 50, 0.1, None),
    'coco_stuff164k': (448, 40, None, None),
    'coco_stuff10k': (336, 40, None, None),
    'cityscapes': (560, 40, None, None),
    'ade20k': (336, 40, None, None),
}
BACKGROUND = ('voc21', 'context60', 'coco_object')
# Methods with a config for every dataset of SCLIP's, and a model part of their own.
METHODS = (
    *('clearclip', 'naclip', 'gem', 'clip_surgery', 'resclip', 'resclip_clearclip', 'resclip_sclip', 'sc_clip'),
    *('pearl', 'sfp', 'cliptrase', 'freecp_sclip', 'cliper', 'proxyclip', 'lposs', 'lposs_plus', 'trident', 'corrclip'),
    'reco',
)
# Trained peers, which have networks of their own.
PEERS = ('groupvit', 'ovsegmentor', 'segclip', 'tcl')
BASELINES = {'clip': 'VanillaSelfAttention', 'maskclip': 'IdentityAttention'}
NAMES = [path.stem for path in paths.list_configs()]


@cache
def parsed(name):
    """A shipped config, or a part by its path; not to be changed."""
    return Config.fromfile(paths.config_path(name))


def digest(config):
    """Of what a config resolves to, part by part."""
    rest = copy.deepcopy(config.to_dict())
    parts = {f'model.{key}': rest['model'].pop(key) for key in ('backbone', 'decode_head', 'test_cfg')}
    parts.update({'test_dataloader': rest.pop('test_dataloader'), 'the rest': rest})
    content = {key: json.dumps(value, sort_keys=True) for key, value in parts.items()}
    return {key: hashlib.sha256(value.encode()).hexdigest()[:8] for key, value in content.items()}


@pytest.mark.parametrize('name', NAMES)
def test_a_config_fits_its_dataset_and_is_what_it_was(name):
    config = parsed(name)
    head, dataset = config.model.decode_head, config.test_dataloader.dataset
    classes = DATASETS.get(dataset.type).METAINFO['classes']
    vocabulary = load_vocabulary(head.vocabulary)
    assert dataset_meta(vocabulary, head.class_names)['classes'] == list(classes)
    assert head.background_index == (0 if name.endswith(BACKGROUND) else None)
    assert config.test_pipeline == dataset.pipeline and [hook.type for hook in config.custom_hooks] == HOOKS
    steps = [step['type'] for step in config.test_pipeline]
    assert name.endswith('demo') or {'Resize', 'ResizeToPatches'} & {*steps}
    assert 'ScoreCentre' in steps or steps[-2:] == ['LoadLabelMap', 'PackSegInputs']  # truth is not resized
    if 'ScoreCentre' not in steps:
        *loading, views = views_of(config.test_pipeline)
        assert loading == config.test_pipeline[: len(loading)]
        for resize in [step for step in config.test_pipeline if step['type'].startswith('Resize')]:
            assert resize in views['transforms'][0]  # one of the views is that of the plain test
    assert digest(config) == json.loads(DIGEST.read_text()).get(name), (
        f'{name} has changed. Where that is meant, run `python tests/test_configs.py` and commit what it writes.'
    )


@pytest.mark.parametrize('name', OFFICIAL)
def test_leaves_carry_the_official_settings(name):
    config = parsed(f'sclip_{name}')
    (resize,) = [step for step in config.test_pipeline if step['type'] == 'Resize']
    test_cfg, decoder = config.model.test_cfg, config.model.backbone.decoder
    assert (resize.scale, resize.keep_ratio) == ((2048, OFFICIAL[name][0]), True)
    assert (test_cfg.logit_scale, test_cfg.prob_thd, test_cfg.area_thd) == OFFICIAL[name][1:]
    assert (test_cfg.mode, test_cfg.crop_size, test_cfg.stride) == ('slide', (224, 224), (112, 112))
    assert not test_cfg.get('refine') and config.model.decode_head.templates == 'openai_imagenet'
    assert config.model.clip == dict(model_name='ViT-B-16-quickgelu', pretrained='openai')
    sclip = dict(type='CorrelativeSelfAttention', projections=('q', 'k'))
    assert decoder == dict(type='LastBlock', attention=sclip, residual=True, ffn=True)
    for method, attention in BASELINES.items():  # they differ in their attention only
        sclip = config.to_dict()
        sclip['model']['backbone']['decoder']['attention'] = dict(type=attention)
        assert parsed(f'{method}_{name}').to_dict() == sclip


def test_a_folder_is_a_method_and_names_are_unique():
    root = paths.configs_root()
    assert len({*NAMES}) == len(NAMES) and [*json.loads(DIGEST.read_text())] == NAMES
    for path in paths.list_configs():
        method, _ = re.fullmatch(f'(.+)_({"|".join((*OFFICIAL, "demo"))})', path.stem).groups()
        assert path.parent == root or re.fullmatch(f'{path.parent.name}(_official|_sclip|_clearclip|_plus)?', method)
        assert (path.parent == root) == (method == 'sclip')
    for method in ('sclip', *BASELINES, *METHODS, *PEERS):
        assert {f'{method}_{dataset}' for dataset in (*OFFICIAL, 'demo')} <= {*NAMES}


def predicts(config, source, size=(100, 130)):
    model = random_model(config, source)
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (3, *size), dtype=torch.uint8, generator=generator)
    with torch.no_grad():
        (result,) = model.test_step(dict(inputs=[image]))
    labels = result.pred_sem_seg.data
    assert labels.shape == (1, *size)
    assert 0 <= labels.min() <= labels.max() < model.num_classes == len(model.dataset_meta['palette'])


@pytest.mark.parametrize('method', ['sclip', *BASELINES, *METHODS, *PEERS, 'maskclip_official', 'sclip_learned'])
def test_each_method_predicts_on_two_datasets(method, random_towers):
    found = [name for data in ('voc21', 'voc20', 'cityscapes', 'context59') if (name := f'{method}_{data}') in NAMES]
    for name in found[:2]:
        predicts(parsed(name), random_towers(parsed(name), layers=12))


@pytest.mark.parametrize(
    'vision', [dict(layers=12, patch_size=32), dict(layers=24, patch_size=14)], ids=['B/32', 'L/14']
)
@pytest.mark.parametrize('method', METHODS)
def test_other_depths_and_patches_predict(method, vision, random_clip):
    predicts(parsed(f'{method}_voc20'), random_clip(**vision, width=64), (224, 230))


# What methods keep of their own `test_cfg` in the common protocol, beside refinements.
SETTINGS = dict(
    pearl=dict(whole_resize='input'),
    cliptrase=dict(mode='whole'),
    freecp_sclip=dict(logit_scale=None, area_thd=None),
    cliper=dict(mode='whole', logit_scale=None, area_thd=None),
    **dict.fromkeys(('corrclip', 'proxyclip'), dict(window_multiple=56)),
    **dict.fromkeys(PEERS[:-1], dict(logit_scale=None, area_thd=None)),
    tcl=dict(logit_scale=None, area_thd=None, window_multiple=16),
    reco=dict(mode='whole', logit_scale=None, area_thd=None),
)


@pytest.mark.parametrize('dataset', ['context60', 'demo'])
@pytest.mark.parametrize('method', METHODS + PEERS)
def test_the_common_protocol_is_sclips_with_another_model(method, dataset):
    sclip, own, part = parsed(f'sclip_{dataset}'), parsed(f'{method}_{dataset}'), parsed(f'_base_/models/{method}')
    common, general = common_protocol(method, dataset), (own if dataset == 'demo' else part).model
    head, words = common.model.decode_head, sclip.model.decode_head
    assert Path(head.vocabulary).stem == words.vocabulary
    assert (head.class_names, head.background_index) == (words.class_names, words.background_index)
    for key, value in general.decode_head.items():
        assert head[key] == value or key in ('vocabulary', 'class_names', 'background_index')
    assert (common.model.backbone, common.model.clip) == (general.backbone, general.clip)
    refine = general.test_cfg.get('refine', []) if 'refine' in part.model.test_cfg else []
    settings = dict(SETTINGS.get(method, {}))
    if 'window_multiple' in settings and dataset == 'demo':
        settings['window_multiple'] = own.model.test_cfg.window_multiple
    assert common.model.test_cfg == {**sclip.model.test_cfg, **settings, 'refine': refine}
    assert common.test_dataloader == sclip.test_dataloader and common.test_pipeline == sclip.test_pipeline
    for baseline in ('sclip', *BASELINES):  # it is their config
        model = common_protocol(baseline, dataset).model
        model.test_cfg.pop('refine', None)
        assert model == load_config(f'{baseline}_{dataset}').model


@cache
def demo_miou(name):
    """Of a config on eight painted scenes; chance is below 10."""
    scenes = [scene('evaluation', 1, index, 192, 6) for index in range(8)]
    pixels = [torch.from_numpy(painted.image[..., ::-1].copy()).permute(2, 0, 1) for painted in scenes]
    with torch.no_grad():
        found = MODELS.build(parsed(name).model).eval().test_step(dict(inputs=pixels))
    labels, truth = np.stack([each.pred_sem_seg.data[0] for each in found]), np.stack([each.label for each in scenes])
    one_hot = [(labels == label, truth == label) for label in np.unique(truth)]
    return 100 * np.mean([(found & true).sum() / (found | true).sum() for found, true in one_hot])


def is_trained(name):
    """Whether a config has weights: nobody has trained a peer's own network for painted scenes."""
    clip = parsed(name).model.clip
    return 'type' not in clip or clip.pretrained is not None


@pytest.mark.slow
@pytest.mark.parametrize('name', [name for name in NAMES if name.endswith('_demo') and is_trained(name)])
def test_the_demo_configs_segment_the_painted_scenes(name):
    assert demo_miou(name) > 40
    assert demo_miou('clip_demo') + 20 < demo_miou('sclip_demo')


if __name__ == '__main__':
    lines = [f'{json.dumps(name)}: {json.dumps(digest(parsed(name)))}' for name in NAMES]
    DIGEST.write_text('{\n' + ',\n'.join(lines) + '\n}\n')
    print(f'Wrote {DIGEST}.')
