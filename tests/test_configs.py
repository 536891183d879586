"""Every shipped config: parses, fits its dataset, builds on a tiny random model and predicts."""

import json
import re

import pytest
import torch
from mmengine.config import Config
from mmseg.registry import DATASETS, MODELS

from mmseg_sclip import paths
from mmseg_sclip.ablation.protocols import common_protocol
from mmseg_sclip.datasets.views import views_of
from mmseg_sclip.engine import flops
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
# Methods with a config for every dataset of SCLIP's, and a model part of their own.
METHODS = (
    *('clearclip', 'naclip', 'gem', 'clip_surgery', 'resclip', 'resclip_clearclip', 'resclip_sclip', 'sc_clip'),
    *('pearl', 'sfp', 'cliptrase', 'freecp_sclip', 'cliper'),
)
SPLITS = {'PascalVOCDataset', 'PascalVOC20Dataset', 'PascalContextDataset', 'PascalContextDataset59'}


CONFIGS = paths.list_configs()
# One of each folder is enough for every run of the tests.
FAST = {path.parent: path for path in CONFIGS if path.stem.endswith(('_voc21', '_voc20'))}.values()


@pytest.mark.parametrize(
    'path',
    [pytest.param(path, marks=() if path in FAST else pytest.mark.slow, id=path.stem) for path in CONFIGS],
)
def test_config(path, deep_clip):
    config = Config.fromfile(path)
    dataset = config.test_dataloader.dataset
    classes = DATASETS.get(dataset.type).METAINFO['classes']
    vocabulary = load_vocabulary(config.model.decode_head.vocabulary)
    assert vocabulary.num_classes == len(classes)
    steps = [step['type'] for step in config.test_pipeline]
    assert config.test_pipeline == dataset.pipeline
    assert 'demo' in path.stem or is_resized(config.test_pipeline)
    if 'ScoreCentre' not in steps:  # only there the ground truth is resized too
        assert steps[-2:] == ['LoadLabelMap', 'PackSegInputs']
        *loading, views = views_of(config.test_pipeline)
        assert loading == config.test_pipeline[:2]
        for resize in [step for step in config.test_pipeline if step['type'].startswith('Resize')]:
            assert resize in views['transforms'][0]  # one of the views is that of the plain test
    assert config.tta_pipeline == [dict(type='DerivedViews')]
    assert config.custom_hooks == [dict(type='VocabularyCheckHook'), dict(type='SetupHook')]
    if dataset.type in SPLITS:
        assert dataset.ann_file.endswith('val.txt')

    model = build(config, 'builtin:demo' if 'demo' in path.stem else deep_clip['model_name'])
    assert list(model.dataset_meta['classes']) == list(classes)
    assert len(model.dataset_meta['palette']) == len(classes)
    assert (model.num_classes, model.out_channels) == (len(classes), len(vocabulary.queries))
    predicts(model, len(classes))


def is_resized(pipeline):
    return any(step['type'] in ('Resize', 'ResizeToPatches') for step in pipeline)


def build(config, architecture):
    """The config's model with random weights and one template."""
    config.model.clip = dict(model_name=str(architecture), pretrained=None)
    config.model.decode_head.templates = 'simple'
    torch.manual_seed(0)
    return MODELS.build(config.model).eval()


def predicts(model, classes, size=(100, 130)):
    with torch.no_grad():
        (result,) = model.test_step(dict(inputs=[torch.randint(0, 256, (3, *size), dtype=torch.uint8)]))
    labels = result.pred_sem_seg.data
    assert labels.shape == (1, *size)
    assert 0 <= labels.min() <= labels.max() < classes


@pytest.mark.parametrize('name', OFFICIAL)
def test_leaves_carry_the_official_settings(name):
    path = paths.config_path(f'sclip_{name}')
    config = Config.fromfile(path)
    (resize,) = [step for step in config.test_pipeline if step['type'] == 'Resize']
    test_cfg = config.model.test_cfg
    assert (resize.scale, resize.keep_ratio) == ((2048, OFFICIAL[name][0]), True)
    assert (test_cfg.logit_scale, test_cfg.prob_thd, test_cfg.area_thd) == OFFICIAL[name][1:]
    assert (test_cfg.mode, test_cfg.crop_size, test_cfg.stride) == ('slide', (224, 224), (112, 112))
    assert not test_cfg.get('refine')
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


def test_a_folder_is_a_method_and_names_are_unique():
    root = paths.configs_root()
    assert len({path.stem for path in CONFIGS}) == len(CONFIGS)
    for path in CONFIGS:
        method, dataset = re.fullmatch(f'(.+)_({"|".join((*OFFICIAL, "demo"))})', path.stem).groups()
        assert path.parent == root or re.fullmatch(f'{path.parent.name}(_official|_sclip|_clearclip)?', method)
        assert (path.parent == root) == (method == 'sclip')
    for method in ('sclip', 'clip', 'maskclip', *METHODS):
        assert {f'{method}_{dataset}' for dataset in (*OFFICIAL, 'demo')} <= {path.stem for path in CONFIGS}


@pytest.mark.parametrize('method, attention', [('clip', 'VanillaSelfAttention'), ('maskclip', 'IdentityAttention')])
def test_the_baselines_differ_from_sclip_in_their_attention(method, attention):
    for dataset in (*OFFICIAL, 'demo'):
        sclip = Config.fromfile(paths.config_path(f'sclip_{dataset}')).to_dict()
        sclip['model']['backbone']['decoder']['attention'] = dict(type=attention)
        assert Config.fromfile(paths.config_path(f'{method}_{dataset}')).to_dict() == sclip


@pytest.mark.parametrize(
    'dataset, scale',
    [
        ('ade20k', (2048, 512)),
        ('cityscapes', (1024, 512)),
        ('coco_stuff164k', (2048, 512)),
        ('context59', (520, 520)),
        ('voc20', (2048, 512)),
    ],
)
def test_maskclip_in_its_own_protocol(dataset, scale):
    config = Config.fromfile(paths.config_path(f'maskclip_official_{dataset}'))
    sclip = Config.fromfile(paths.config_path(f'sclip_{dataset}'))
    resized = [step for step in sclip.test_pipeline if step['type'] == 'Resize']
    resized[0].scale = scale
    assert config.test_dataloader.dataset.pipeline == sclip.test_pipeline
    for key in ('vocabulary', 'class_names'):
        assert config.model.decode_head[key] == sclip.model.decode_head[key]
    assert (config.model.test_cfg.mode, config.model.decode_head.templates) == ('whole', 'maskclip')


BACKGROUND = ('voc21', 'context60', 'coco_object')
SHORT_336 = {**dict.fromkeys(OFFICIAL, 336), 'cityscapes': 560}
WORDS = {**{name: name for name in OFFICIAL}, 'coco_stuff164k': 'coco_stuff', 'coco_stuff10k': 'coco_stuff'}


def words(suffix, *names):
    return {**WORDS, **{name: f'{WORDS[name]}_{suffix}' for name in names}}


NACLIP = dict(
    sides=SHORT_336,
    windows=(224, 112),
    windows_of=dict(voc20=None, voc21=None),
    scale=40,
    thresholds=(0.1, 0.1, 0.1),
)
# Each method's own protocol: (width, height) or short side, windows (crop, stride) or None for whole images,
# logit_scale, prob_thd of VOC21, Context60 and COCO-Object, area_thd of VOC21, vocabularies and refinements.
PROTOCOLS = dict(
    clearclip=dict(
        sides=dict.fromkeys(OFFICIAL, 448),
        windows=(448, 224),
        windows_of=dict(cityscapes=(224, 224)),
        scale=50,
        thresholds=(0.5, 0.15, 0.4),
        words=words('plain', 'voc20', 'voc21', 'coco_object'),
    ),
    naclip=dict(NACLIP, refine=['PAMR']),
    gem=dict(
        sides=dict.fromkeys(OFFICIAL, (448, 448)),
        scale=40,
        scale_of=dict.fromkeys(BACKGROUND, 100),
        thresholds=(0.85, 0.85, 0.85),
        words=words('plain', 'voc20', 'voc21', 'coco_object'),
        refine_of=dict.fromkeys(BACKGROUND, ['ForegroundOnly']),
    ),
    clip_surgery=dict(sides=dict.fromkeys(OFFICIAL, (512, 512)), scale=40),
    resclip=NACLIP,
    resclip_clearclip=NACLIP,
    resclip_sclip=NACLIP,
    sc_clip=dict(
        sides=SHORT_336,
        windows=(224, 112),
        scale=40,
        scale_of=dict(voc21=50, coco_object=55),
        thresholds=(0.15, 0.15, 0.35),
        area=0.1,
    ),
    pearl=dict(NACLIP, refine=['TextLabelPropagation']),
    sfp=dict(
        sides={**SHORT_336, 'ade20k': 384},
        windows=(224, 112),
        scale=40,
        scale_of=dict(voc21=50, coco_object=55),
        thresholds=(0.15, 0.15, 0.35),
        area=0.1,
        words=words('people', 'voc20', 'voc21', 'cityscapes'),
    ),
    cliptrase=dict(
        sides=dict.fromkeys(OFFICIAL, 336),
        scale=100,
        words=words('cliptrase', *(name for name in OFFICIAL if name != 'cityscapes')),
        refine=['SegmentVoting'],
    ),
    freecp_sclip=dict(
        sides={**dict.fromkeys(OFFICIAL, 448), 'cityscapes': 560},
        windows=(384, 112),
        windows_of=dict(cityscapes=(224, 112)),
        scale=None,
        words=words('merged', 'voc20', 'voc21', 'coco_object'),
    ),
    cliper=dict(
        sides=SHORT_336,
        scale=None,
        thresholds=(0.6, 0.45, 0.3),
        words=words('cliper', 'voc20', 'voc21', 'context59', 'context60', 'coco_object', 'ade20k'),
    ),
)


@pytest.mark.parametrize('dataset', OFFICIAL)
@pytest.mark.parametrize('method', METHODS)
def test_methods_have_their_own_protocol(method, dataset):
    protocol = PROTOCOLS[method]
    config = Config.fromfile(paths.config_path(f'{method}_{dataset}'))
    test_cfg, head = config.model.test_cfg, config.model.decode_head
    (resize,) = [step for step in config.test_pipeline if step['type'].startswith('Resize')]
    side = resize.get('short_side') or (resize.scale[1] if resize.keep_ratio else resize.scale)
    assert side == protocol['sides'][dataset]
    windows = protocol.get('windows_of', {}).get(dataset, protocol.get('windows'))
    assert (test_cfg.mode == 'whole') == (windows is None)
    if windows is not None:
        assert (test_cfg.crop_size, test_cfg.stride) == ((windows[0],) * 2, (windows[1],) * 2)
    assert test_cfg.logit_scale == protocol.get('scale_of', {}).get(dataset, protocol['scale'])
    thresholds = dict(zip(BACKGROUND, protocol.get('thresholds', [None] * 3), strict=True))
    assert test_cfg.prob_thd == thresholds.get(dataset)
    assert test_cfg.area_thd == (protocol.get('area') if dataset == 'voc21' else None)
    assert head.background_index == (0 if dataset in BACKGROUND else None)
    assert head.vocabulary == protocol.get('words', WORDS)[dataset]
    refine = protocol.get('refine_of', {}).get(dataset, protocol.get('refine', []))
    assert [entry.type for entry in test_cfg.get('refine', [])] == refine


# The paper's share of RCS; gain, share and threshold of SFR.
RESCLIP = dict(
    voc21=(0.3, 2.2, 0.7, 0.5),
    voc20=(0.6, 2.1, 0.6, 0.1),
    context60=(0.3, 1.8, 0.7, 0.3),
    context59=(0.4, 1.8, 0.7, 0.25),
    coco_object=(0.4, 1.8, 0.7, 0.11),
    coco_stuff164k=(0.4, 1.8, 0.7, 0.11),
    coco_stuff10k=(0.4, 1.8, 0.7, 0.11),
    cityscapes=(0.2, 2.1, 0.6, 0.1),
    ade20k=(0.3, 2.1, 0.7, 0.25),
)


@pytest.mark.parametrize('method', ['resclip', 'resclip_clearclip', 'resclip_sclip'])
def test_resclip_has_values_for_each_dataset(method):
    decoder = Config.fromfile(paths.config_path(f'_base_/models/{method}')).model.backbone.decoder
    for dataset, (share, *of_sfr) in RESCLIP.items():
        decoder.attention.update(share=share, gain=2.0)
        decoder.attention.base.update(dict(zip(('gain', 'share', 'threshold'), of_sfr, strict=True)))
        assert Config.fromfile(paths.config_path(f'{method}_{dataset}')).model.backbone.decoder == decoder


def test_pearl_and_cliptrase_have_values_for_some_datasets():
    pearl = {name: Config.fromfile(paths.config_path(f'pearl_{name}')).model for name in OFFICIAL}
    alphas = {name: model.backbone.decoder.attention.alpha for name, model in pearl.items()}
    assert alphas == {**dict.fromkeys(OFFICIAL, 0.08), 'cityscapes': 0.3, 'ade20k': 0.3}
    grids = {name: model.test_cfg.refine[0].grid for name, model in pearl.items()}
    assert grids == {**dict.fromkeys(OFFICIAL, 80), 'cityscapes': 224}
    for name in OFFICIAL:
        head = Config.fromfile(paths.config_path(f'cliptrase_{name}')).model.decode_head
        assert head.type == ('ClassTokenHead' if name == 'voc20' else 'TextSimilarityHead')


def test_freecp_and_cliper_have_thresholds_for_each_dataset():
    redundancy = dict(voc21=0.15, voc20=0.15, coco_object=0.15, context60=0.1, context59=0.1, cityscapes=0.1)
    # Factor, cut of the attention, score that a class must exceed.
    cliper = dict(
        voc21=(100, 0.1, 0.7),
        voc20=(100, 0.1, 0),
        context60=(100, 0.2, 0.45),
        context59=(100, 0.2, 0.3),
        coco_object=(50, 0.2, 0.3),
        coco_stuff164k=(50, 0.2, 0.1),
        coco_stuff10k=(50, 0.2, 0.1),
        cityscapes=(100, 0.35, 0),
        ade20k=(100, 0.2, 0.3),
    )
    for name in OFFICIAL:
        head = Config.fromfile(paths.config_path(f'freecp_sclip_{name}')).model.decode_head
        assert head.redundancy_thd == redundancy.get(name, 0.05)
        head = Config.fromfile(paths.config_path(f'cliper_{name}')).model.decode_head
        assert (head.scale, head.attention_thd, head.score_thd) == cliper[name]
        assert head.min_max == (name == 'voc21')
        assert (head.templates == 'openai_imagenet') == (name in ('cityscapes', 'coco_object'))


# What methods keep of their own `test_cfg`, beside refinements.
SETTINGS = dict(
    pearl=dict(whole_resize='input'),
    cliptrase=dict(mode='whole'),
    freecp_sclip=dict(logit_scale=None, area_thd=None),
    cliper=dict(mode='whole', logit_scale=None, area_thd=None),
)


@pytest.mark.parametrize('dataset', ['voc21', 'demo'])
@pytest.mark.parametrize('method', METHODS)
def test_the_common_protocol_is_sclips_with_another_model(method, dataset):
    sclip, own = (Config.fromfile(paths.config_path(f'{name}_{dataset}')) for name in ('sclip', method))
    general = Config.fromfile(paths.config_path(f'_base_/models/{method}')).model
    common = common_protocol(method, dataset)
    assert common.model.backbone == (own if dataset == 'demo' else Config(dict(model=general))).model.backbone
    for key in ('vocabulary', 'class_names', 'background_index'):
        expected = sclip.model.decode_head[key]
        assert common.model.decode_head.pop(key) == expected or key == 'vocabulary'
        sclip.model.decode_head.pop(key)
    assert common.model.decode_head.type == general.decode_head.type
    settings = dict(common.model.test_cfg)
    assert settings.pop('refine') == ([] if 'refine' not in general.test_cfg else own.model.test_cfg.refine)
    assert settings == {**sclip.model.test_cfg, **SETTINGS.get(method, {})}
    sclip.model = common.model
    assert sclip.test_dataloader == common.test_dataloader and sclip.test_pipeline == common.test_pipeline
    assert common.model.clip == (own.model.clip if dataset == 'demo' else general.clip)


def test_the_common_protocol_of_the_baselines_is_their_config():
    for method in ('sclip', 'clip', 'maskclip'):
        config = Config.fromfile(paths.config_path(f'{method}_context60')).model.to_dict()
        common = common_protocol(method, 'context60').model.to_dict()
        assert common['decode_head'].pop('vocabulary').endswith(f'{config["decode_head"].pop("vocabulary")}.txt')
        common['test_cfg'].pop('refine', None)
        assert common == config


@pytest.mark.parametrize(
    'method, dataset',
    [
        pytest.param(method, dataset, marks=() if dataset == 'context60' else pytest.mark.slow)
        for method in METHODS
        for dataset in OFFICIAL
    ],
)
def test_the_common_protocol_predicts(method, dataset, deep_clip):
    config = common_protocol(method, dataset)
    predicts(
        build(config, deep_clip['model_name']),
        len(DATASETS.get(config.test_dataloader.dataset.type).METAINFO['classes']),
    )


@pytest.mark.parametrize('architecture', ['ViT-B-32-quickgelu', 'ViT-L-14-quickgelu'])
@pytest.mark.parametrize('method', METHODS)
def test_other_architectures_are_bound(method, architecture):
    config = Config.fromfile(paths.config_path(f'{method}_voc20'))
    config.model.clip.model_name = architecture
    assert flops.count(config, (375, 500)).per_window > 1


@pytest.mark.slow
@pytest.mark.parametrize('layers, patch_size', [(12, 32), (24, 14)], ids=['like B/32', 'like L/14'])
@pytest.mark.parametrize('method', METHODS)
def test_other_depths_and_patches_predict(method, layers, patch_size, mini_json, tmp_path):
    description = json.loads(mini_json.read_text())
    description['vision_cfg'].update(layers=layers, patch_size=patch_size)
    (tmp_path / 'clip.json').write_text(json.dumps(description))
    for dataset, classes in (('voc21', 21), ('cityscapes', 19)):
        config = Config.fromfile(paths.config_path(f'{method}_{dataset}'))
        predicts(build(config, tmp_path / 'clip.json'), classes, (224, 260))


@pytest.mark.parametrize('method', METHODS)
def test_the_demo_is_evaluated(method, run_main, tmp_path):
    result = run_main(f'{method}_demo', '--max-images', 4, '--cfg-options', 'test_dataloader.num_workers=0')
    assert result.code == 0, result.err[-3000:]
    (found,) = [json.loads(path.read_text()) for path in (tmp_path / 'work').glob('**/result.json')]
    assert found['images'] == 4
    assert found['metrics']['mIoU'] > 25  # chance is below 10
