"""Every shipped config: parses, fits its dataset, builds on a tiny random model and predicts."""

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


def test_baselines_differ_from_sclip_in_the_attention_only():
    sclip, clip, maskclip = (
        Config.fromfile(paths.config_path(name)).to_dict()
        for name in ('sclip_demo', 'baselines/clip_demo', 'baselines/maskclip_demo')
    )
    for baseline, attention in ((clip, 'VanillaSelfAttention'), (maskclip, 'IdentityAttention')):
        assert baseline['model']['backbone']['decoder'].pop('attention') == dict(type=attention)
        changed = {**baseline, 'model': sclip['model']}
        sclip_decoder = dict(sclip['model']['backbone']['decoder'])
        sclip_decoder.pop('attention')
        assert baseline['model']['backbone']['decoder'] == sclip_decoder
        assert {**baseline['model'], 'backbone': None} == {**sclip['model'], 'backbone': None}
        assert changed == sclip
