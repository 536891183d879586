"""Several methods in one pass over the images: what each of them gives when it is tested alone."""

import json
from pathlib import Path

import pytest
import torch
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample

from mmseg_sclip.config import load_config
from mmseg_sclip.engine.evaluation import evaluate, evaluate_methods
from mmseg_sclip.engine.journal import Journal
from mmseg_sclip.engine.preparing import bundle, passes
from mmseg_sclip.engine.runner import isolated
from mmseg_sclip.errors import ConfigError, Interrupted
from mmseg_sclip.models.image.scores import whole
from mmseg_sclip.models.segmentors import score_together

NAMES = ['sclip_demo', 'clip_demo', 'maskclip_demo']


@pytest.fixture(autouse=True)
def scope():
    init_default_scope('mmseg')


@pytest.fixture
def configs(tmp_path):
    """Three methods, a whole-image one, and one with a refinement, on five scenes."""
    made = []
    for index, name in enumerate([*NAMES, 'sclip_demo', 'sclip_demo']):
        config = load_config(name, {'test_dataloader.num_workers': 0, 'test_dataloader.dataset.indices': 5})
        config.work_dir = str(tmp_path / f'{index}')
        made.append(config)
    made[3].model.test_cfg.mode = 'whole'
    made[4].model.test_cfg.refine = [dict(type='PAMR', steps=2)]
    return made


def alone(config):
    with isolated():
        return evaluate(config, 'cpu')


def together(configs, **options):
    with isolated():
        return evaluate_methods(configs, 'cpu', **options)


@pytest.mark.slow
def test_counts_equal_those_of_separate_runs(configs, tmp_path):
    expected = [alone(config) for config in configs]
    for config in configs:
        Path(config.work_dir, 'result.json').unlink()
    results = together(configs)
    for config, result, one in zip(configs, results, expected, strict=True):
        assert result['classes'] == one['classes'] and result['metrics'] == one['metrics']
        assert result['fingerprint'] == one['fingerprint'] and result['config'] == one['config']
        assert json.loads(Path(config.work_dir, 'result.json').read_text())['classes'] == one['classes']
    assert len({json.dumps(result['classes']) for result in results}) == 5


@pytest.mark.slow
def test_an_interrupted_pass_goes_on(configs, monkeypatch):
    expected = together(configs[:2])
    add, calls = Journal.add, []

    def counting(self, *args):
        add(self, *args)
        calls.append(args)
        if len(calls) == 5:  # the first method has three images, the second one two
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Journal, 'add', counting)
        with pytest.raises(Interrupted, match='sclip_demo: Partial result of 3 of 5 .* clip_demo: Partial result of 2'):
            together(configs[:2])
    results = together(configs[:2], resume=True)
    for result, one in zip(results, expected, strict=True):
        assert result['classes'] == one['classes']


def test_configs_of_other_images_are_refused(configs):
    configs[1].test_dataloader.dataset.seed = 1
    with pytest.raises(ConfigError, match='cannot be tested in one pass: their test_dataloader.dataset differs'):
        together(configs[:2])


def test_a_checkpoint_is_tested_by_itself(configs):
    for config in (configs[1], configs[3]):
        config.load_from = 'projection.pth'
    assert passes(configs) == [[0, 2, 4], [1], [3]]
    assert passes(configs[1:]) == [[0], [1, 3], [2]]
    with pytest.raises(ConfigError, match='clip_demo has the checkpoint projection.pth'):
        bundle(configs[:2])


def test_a_model_without_clip_is_tested_by_itself(configs):
    for config in configs[1:3]:
        config.model = dict(type='EncoderDecoder')
    assert passes(configs) == [[0, 3, 4], [1], [2]]
    with pytest.raises(ConfigError, match='is of type EncoderDecoder and has no CLIP'):
        bundle(configs[:2])


@pytest.mark.parametrize(
    'where, value', [('test_cfg', dict(type='TestLoop', fp16=True)), ('custom_hooks', [dict(type='IterTimerHook')])]
)
def test_what_only_the_first_config_would_decide_parts_them(configs, where, value):
    assert passes(configs) == [[0, 1, 2, 3, 4]]
    configs[1][where] = value
    assert passes(configs) == [[0, 2, 3, 4], [1]]
    with pytest.raises(ConfigError, match=f'their {where} differs'):
        together(configs[:2])


def test_each_vocabulary_is_compared_with_the_dataset(configs):
    configs[1].model.decode_head.vocabulary = ['a', 'b', 'c', 'd']
    with pytest.raises(ConfigError, match='has 4 classes, but the dataset .* has 12'):
        together(configs[:2])


@torch.no_grad()
def test_the_tower_runs_once_for_all_that_share_it(mini_clip):
    def config(**decoder):
        return dict(
            type='SCLIPSegmentor',
            clip=mini_clip,
            backbone=dict(type='CLIPVisionTransformer', decoder=dict(type='LastBlock', **decoder)),
            decode_head=dict(type='TextSimilarityHead', vocabulary=['cat', 'dog'], templates='simple'),
            test_cfg=dict(crop_size=(64, 64), stride=(32, 32)),
        )

    methods = dict(
        a=config(attention=dict(type='CorrelativeSelfAttention')),
        b=config(attention=dict(type='EarlierAttention', block=1)),
        c=config(attention=dict(type='IdentityAttention'), residual=False),
    )
    bundle = MODELS.build(dict(type='MethodBundle', methods=methods)).eval()
    models = list(bundle.methods)
    assert len({id(model.backbone.tower) for model in models}) == 1
    ran = []
    for number in (1, 2, 3):
        models[0].backbone.tower.block(number).register_forward_hook(lambda *_, number=number: ran.append(number))
    images = [torch.randn(3, 70, 90), torch.randn(3, 64, 64)]
    samples = [SegDataSample(metainfo=dict(ori_shape=(50, 60))) for _ in images]
    each = score_together(models, images, samples)
    assert ran == [1, 2]  # all seven windows at once, to the deepest output that is needed
    for model, scores in zip(models, each, strict=True):
        for one, expected in zip(scores, model.score(images, samples), strict=True):
            assert torch.equal(whole(one), whole(expected))
