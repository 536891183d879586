"""Every shipped config: parses, fits its dataset, builds on a tiny random model and predicts."""

import re

import pytest
import torch
from mmengine.config import Config
from mmseg.registry import DATASETS, MODELS

from mmseg_sclip import paths
from mmseg_sclip.models.text import load_vocabulary

# Short side, logit_scale, prob_thd, area_thd: the official settings.
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
SPLITS = {'PascalVOCDataset', 'PascalVOC20Dataset', 'PascalContextDataset', 'PascalContextDataset59'}


@pytest.mark.parametrize('path', paths.list_configs(), ids=paths.config_name)
def test_config(path, mini_json, monkeypatch):
    config = Config.fromfile(path)
    dataset = config.test_dataloader.dataset
    classes = DATASETS.get(dataset.type).METAINFO['classes']
    vocabulary = load_vocabulary(config.model.decode_head.vocabulary)
    assert vocabulary.num_classes == len(classes)
    steps = [step['type'] for step in config.test_pipeline]
    assert config.test_pipeline == dataset.pipeline
    assert steps.index('LoadAnnotations') == len(steps) - 2  # ground truth stays at its own size
    assert config.custom_hooks == [dict(type='VocabularyCheckHook')]
    if dataset.type in SPLITS:
        assert dataset.ann_file.endswith('val.txt')

    config.model.clip = dict(model_name=str(mini_json), pretrained=None)
    config.model.decode_head.templates = 'simple'
    model = MODELS.build(config.model).eval()
    assert list(model.dataset_meta['classes']) == list(classes)
    assert len(model.dataset_meta['palette']) == len(classes)
    assert (model.num_classes, model.out_channels) == (len(classes), len(vocabulary.queries))
    with torch.no_grad():
        (result,) = model.test_step(dict(inputs=[torch.randint(0, 256, (3, 70, 90), dtype=torch.uint8)]))
    labels = result.pred_sem_seg.data
    assert labels.shape == (1, 70, 90)
    assert 0 <= labels.min() <= labels.max() < len(classes)


@pytest.mark.parametrize('name', OFFICIAL)
def test_leaves_carry_the_official_settings(name):
    path = paths.config_path(f'sclip_{name}')
    config = Config.fromfile(path)
    (resize,) = [step for step in config.test_pipeline if step['type'] == 'Resize']
    test_cfg = config.model.test_cfg
    assert (resize.scale, resize.keep_ratio) == ((2048, OFFICIAL[name][0]), True)
    assert (test_cfg.logit_scale, test_cfg.prob_thd, test_cfg.area_thd) == OFFICIAL[name][1:]
    assert (test_cfg.mode, test_cfg.crop_size, test_cfg.stride, test_cfg.pamr.steps) == (
        'slide',
        (224, 224),
        (112, 112),
        0,
    )
    assert config.model.clip == dict(model_name='ViT-B-16-quickgelu', pretrained='openai')
    attention = config.model.backbone.decoder
    assert (attention.attention.type, tuple(attention.attention.projections)) == (
        'CorrelativeSelfAttention',
        ('q', 'k'),
    )
    assert (attention.residual, attention.ffn) == (True, True)
    has_background = name in ('voc21', 'context60', 'coco_object')
    assert config.model.decode_head.background_index == (0 if has_background else None)
    assert config.model.decode_head.templates == 'openai_imagenet'
    assert len(path.read_text().splitlines()) <= 12


def test_every_benchmark_has_a_leaf():
    names = {paths.config_name(path) for path in paths.list_configs()}
    assert {f'sclip_{name}' for name in (*OFFICIAL, 'demo')} <= names
    assert {'baselines/clip_demo', 'baselines/maskclip_demo'} <= names


ATTENTION = 'model.backbone.decoder.attention.'
RESIZE = ('test_pipeline.1.scale', 'test_dataloader.dataset.pipeline.1.scale')
# What a config may change of `sclip_<dataset>`, by its name.
CHANGES = {
    r'baselines/(clip|maskclip)_': (ATTENTION,),
    r'baselines/(clip|maskclip)_pamr_': (ATTENTION, 'model.test_cfg.pamr.steps'),
    r'baselines/sclip_pamr_': ('model.test_cfg.pamr.steps',),
    r'ablations/sclip_(identity|random|random_ensemble|q|k|sharpening|local|earlier)_': (ATTENTION,),
    r'ablations/sclip_mode[124]_': RESIZE,
    r'ablations/sclip_mode5_': (*RESIZE, 'model.test_cfg.crop_size.', 'model.test_cfg.stride.'),
}
VARIANTS = {
    name: (f'sclip_{dataset}', changes)
    for pattern, changes in CHANGES.items()
    for dataset in (*OFFICIAL, 'demo')
    for name in map(paths.config_name, paths.list_configs())
    if re.fullmatch(pattern + dataset, name)
}
VARIANTS['ablations/sclip_coco_stuff164k_short336'] = ('sclip_coco_stuff164k', RESIZE)


def flatten(value, prefix=''):
    if not isinstance(value, (dict, list, tuple)) or not value:
        return {prefix: value}
    items = value.items() if isinstance(value, dict) else enumerate(value)
    return {k: v for key, part in items for k, v in flatten(part, f'{prefix}.{key}' if prefix else str(key)).items()}


@pytest.mark.parametrize('name', VARIANTS)
def test_variants_differ_from_sclip_in_what_their_name_says(name):
    sclip, changes = VARIANTS[name]
    base, variant = (flatten(Config.fromfile(paths.config_path(config)).to_dict()) for config in (sclip, name))
    changed = {key for key in base.keys() | variant.keys() if base.get(key) != variant.get(key)}
    assert all(key.startswith(changes) for key in changed), changed
    assert changed or name == 'ablations/sclip_mode2_voc21'  # which is the default


@pytest.mark.parametrize(
    'row, attention',
    [
        ('baselines/clip', dict(type='VanillaSelfAttention')),
        ('baselines/maskclip', dict(type='IdentityAttention')),
        ('ablations/sclip_identity', dict(type='CorrelativeSelfAttention', projections=['identity'])),
        ('ablations/sclip_q', dict(type='CorrelativeSelfAttention', projections=['q'])),
        ('ablations/sclip_k', dict(type='CorrelativeSelfAttention', projections=['k'])),
        ('ablations/sclip_sharpening', dict(type='SharpenedSelfAttention', temperature=2)),
        ('ablations/sclip_local', dict(type='LocalSelfAttention', window=3)),
        ('ablations/sclip_earlier', dict(type='EarlierAttention', block=3)),
    ],
)
def test_variants_have_the_attention_of_the_paper(row, attention):
    for dataset in ('demo', 'voc21', 'context59', 'coco_stuff164k'):
        decoder = Config.fromfile(paths.config_path(f'{row}_{dataset}')).model.backbone.decoder
        assert decoder.to_dict() == dict(type='LastBlock', attention=attention, residual=True, ffn=True)


def test_every_benchmark_has_its_baselines():
    rows = ('clip', 'maskclip', 'clip_pamr', 'maskclip_pamr', 'sclip_pamr')
    assert {f'baselines/{row}_{name}' for row in rows for name in (*OFFICIAL, 'demo')} <= set(VARIANTS)
    for row in ('clip', 'maskclip', 'sclip'):
        pamr = Config.fromfile(paths.config_path(f'baselines/{row}_pamr_voc21')).model.test_cfg.pamr
        assert (pamr.steps, tuple(pamr.dilations)) == (10, (8, 16))


@pytest.mark.parametrize(
    'name, side, crop, stride',
    [
        ('sclip_mode1_voc21', 224, 224, 112),
        ('sclip_mode2_voc21', 336, 224, 112),
        ('sclip_mode4_voc21', 448, 224, 112),
        ('sclip_mode5_voc21', 448, 448, 224),
        ('sclip_coco_stuff164k_short336', 336, 224, 112),
    ],
)
def test_preprocessing_of_the_paper(name, side, crop, stride):
    config = Config.fromfile(paths.config_path(f'ablations/{name}'))
    (resize,) = [step for step in config.test_pipeline if step['type'] == 'Resize']
    assert (resize.scale, resize.keep_ratio) == ((2048, side), True)
    assert (config.model.test_cfg.crop_size, config.model.test_cfg.stride) == ((crop, crop), (stride, stride))
