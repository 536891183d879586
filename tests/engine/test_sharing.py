"""Several methods in one pass over the images: who may share one, and what each gives when it is tested alone."""

import copy
import json

import pytest
import torch
from helpers import sample
from mmseg.registry import MODELS

from mmseg_sclip.ablation.protocols import common_protocol
from mmseg_sclip.config import load_config
from mmseg_sclip.engine.evaluation import evaluate, evaluate_methods
from mmseg_sclip.engine.journal import Journal
from mmseg_sclip.engine.runner import isolated
from mmseg_sclip.engine.sharing import bundle, passes, why_apart
from mmseg_sclip.errors import ConfigError, Interrupted
from mmseg_sclip.models.companions import FilterBank
from mmseg_sclip.models.image.scores import whole
from mmseg_sclip.models.segmentors import MethodBundle, score_together

IMAGES = 3


@pytest.fixture
def configs(tmp_path):
    """Three methods, a whole-image one, and one with a refinement, on three scenes."""
    made = []
    for index, name in enumerate(['sclip_demo', 'clip_demo', 'maskclip_demo', 'sclip_demo', 'sclip_demo']):
        config = load_config(name, {'test_dataloader.num_workers': 0, 'test_dataloader.dataset.count': IMAGES})
        config.work_dir = str(tmp_path / f'{index}')
        made.append(config)
    made[3].model.test_cfg.mode = 'whole'
    made[4].model.test_cfg.refine = [dict(type='PAMR', steps=2)]
    return made


def together(configs, **options):
    with isolated():
        return evaluate_methods(configs, 'cpu', **options)


APART = {
    'test_dataloader.dataset.seed': (1, 'test_dataloader.dataset differs'),
    'test_dataloader.sampler': (dict(type='DefaultSampler', shuffle=True), 'test_dataloader.sampler differs'),
    'test_cfg': (dict(type='TestLoop', fp16=True), 'test_cfg differs'),
    'custom_hooks': ([dict(type='IterTimerHook')], 'custom_hooks differs'),
    'env_cfg.cudnn_benchmark': (True, 'env_cfg differs'),
    'randomness': (dict(seed=7), 'randomness differs'),
    'data_preprocessor': (dict(type='SegDataPreProcessor'), 'model.data_preprocessor differs'),
    'load_from': ('projection.pth', 'clip_demo has the checkpoint projection.pth'),
    'model': (dict(type='EncoderDecoder'), 'is of type EncoderDecoder and has no CLIP'),
    'test_evaluator': ([dict(type='ExactIoUMetric'), dict(type='CityscapesMetric')], 'clip_demo has other metrics'),
}


@pytest.mark.parametrize('where', APART)
def test_what_one_config_of_a_pass_would_decide_for_all_parts_them(configs, where):
    assert passes(configs) == [[0, 1, 2, 3, 4]]
    value, words = APART[where]
    for config in (configs[1], configs[3]):
        *places, key = where.split('.')
        part = config
        for place in places:
            part = part[place]
        part[key] = value
    alone = where in ('load_from', 'model', 'test_evaluator')  # such a config does not share with its equal
    assert passes(configs) == [[0, 2, 4], [1], [3]] if alone else [[0, 2, 4], [1, 3]]
    assert words in why_apart(configs[0], configs[1]) and why_apart(configs[0], configs[2]) is None
    with pytest.raises(ConfigError, match='Test '):
        bundle(configs[:2])


def test_methods_that_share_no_tower_share_a_pass(configs, mini_clip, mini_json, tmp_path):
    """Each normalises images as its tower wants them, wherever the preprocessor stands."""
    configs[1].model.clip = mini_clip
    for config in configs[:2]:
        config.data_preprocessor = dict(type='CLIPDataPreProcessor')
    assert passes(configs) == [[0, 1, 2, 3, 4]]
    config = bundle(configs[:2])
    assert 'data_preprocessor' not in config  # the runner would hand it to the bundle
    assert [own.data_preprocessor.type for own in config.model.methods.values()] == ['CLIPDataPreProcessor'] * 2
    grey = dict(json.loads(mini_json.read_text()), preprocess_cfg=dict(mean=[0.5] * 3))
    (tmp_path / 'grey.json').write_text(json.dumps(grey))
    configs[1].model.clip = dict(model_name=str(tmp_path / 'grey.json'), pretrained=None)
    assert passes(configs) == [[0, 1, 2, 3, 4]]
    configs[1].data_preprocessor = dict(type='CLIPDataPreProcessor', bgr_to_rgb=False)
    assert passes(configs) == [[0, 2, 3, 4], [1]]
    assert why_apart(*configs[:2]).endswith('one pass: their model.data_preprocessor differs. Test them apart.')


@torch.no_grad()
def test_methods_with_second_networks_share_the_tower_and_each_network(monkeypatch):
    """In the common protocol, whatever their rules for positions and padding, which the windows do not need."""
    names = ('sclip', 'pearl', 'proxyclip', 'lposs', 'lposs_plus', 'trident', 'corrclip')
    configs = [common_protocol(name, 'demo') for name in names]
    assert passes(configs) == [[*range(len(names))]]
    for config in configs[2:]:  # whose demo has filter banks of two sizes
        config.model.companions.dino = dict(type='FilterBank', patch_size=8)
    model, seen = MODELS.build(bundle(configs).model).eval(), []
    features = FilterBank.features
    monkeypatch.setattr(
        FilterBank, 'features', lambda self, images: seen.append((id(self), len(images))) or features(self, images)
    )
    model.methods[0].backbone.tower.block(1).register_forward_hook(lambda *_: seen.append('tower'))
    image = torch.randint(0, 256, (3, 128, 128), dtype=torch.uint8)
    model.test_step(dict(inputs=[image], data_samples=[sample((128, 128))]))  # four windows, in one batch
    windows = [entry for entry in seen if entry == 'tower' or entry[1] > 1]  # Trident's SAM sees the whole image
    assert len(windows) == len({*windows}) == 2


@pytest.mark.slow
def test_an_interrupted_pass_goes_on_where_its_slowest_method_stopped(configs, monkeypatch):
    add, calls = Journal.add, []

    def third_is_interrupted(*args):
        add(*args)
        calls.append(args)
        if len(calls) == 3:  # the first method has two images, the second has one
            raise KeyboardInterrupt

    monkeypatch.setattr(Journal, 'add', third_is_interrupted)
    with pytest.raises(Interrupted, match='sclip_demo: Partial result of 2 of 3 .* clip_demo: Partial result of 1'):
        together(configs[:2])
    results = together(configs[:2], resume=True)
    assert len(calls) == 3 + 2 * 2  # of three images one was finished by both
    for config, result in zip(configs, results, strict=False):
        with isolated():
            alone = evaluate(config, 'cpu')
        assert all(result[key] == alone[key] for key in ('classes', 'metrics', 'fingerprint', 'config'))


@torch.no_grad()
def test_each_method_is_that_which_is_built_alone(mini_clip, recipe, tmp_path):
    """Also where two CLIPs have one name and other weights. The tower runs once for all that share it."""
    other = {name: torch.from_numpy(value.copy()) for name, value in recipe.mini_clip_state_dict(1).items()}
    torch.save(other, tmp_path / 'other.pt')

    def config(attention, clip=mini_clip, **decoder):
        config = copy.deepcopy(load_config('sclip_demo').model)
        config.update(clip=clip, test_cfg=dict(crop_size=(64, 64), stride=(32, 32)))
        config.decode_head.update(vocabulary=['cat', 'dog'], templates='simple')
        config.backbone.decoder = dict(type='LastBlock', attention=attention, **decoder)
        return config

    methods = dict(
        a=config(dict(type='CorrelativeSelfAttention')),
        b=config(dict(type='EarlierAttention', block=1)),
        c=config(dict(type='IdentityAttention'), residual=False),
        d=config(dict(type='IdentityAttention'), {**mini_clip, 'pretrained': str(tmp_path / 'other.pt')}),
    )
    alone = [MODELS.build(entry).eval() for entry in methods.values()]
    joint = MODELS.build(dict(type='MethodBundle', methods=methods)).eval()
    first, last = joint.methods[0].backbone.tower, joint.methods[3].backbone.tower
    assert [model.backbone.tower is first for model in joint.methods] == [True, True, True, False]
    ran = []
    for number in (1, 2, 3):
        first.block(number).register_forward_hook(lambda *_, number=number: ran.append(number))
    generator = torch.Generator().manual_seed(0)
    images = [torch.randn(3, *size, generator=generator) for size in ((70, 90), (64, 64))]
    samples = [sample((50, 60)) for _ in images]
    each = score_together(list(joint.methods), images, samples)
    assert ran == [1, 2]  # all seven windows at once, to the deepest output that is needed
    assert last.block(1) is not first.block(1)
    loaded = [(60 * image + 120).clamp(0, 255).byte() for image in images]
    labelled = joint.test_step(dict(inputs=loaded, data_samples=[sample((50, 60)) for _ in images]))
    for number, (model, scores) in enumerate(zip(alone, each, strict=True)):
        for one, expected in zip(scores, model.score(images, samples), strict=True):
            assert torch.equal(whole(one), whole(expected))
        expected_labels = model.test_step(dict(inputs=loaded, data_samples=[sample((50, 60)) for _ in images]))
        for one, expected in zip(labelled, expected_labels, strict=True):
            assert torch.equal(one.get(MethodBundle.prediction(number)).data, expected.pred_sem_seg.data)
    assert not torch.equal(whole(each[3][0]), whole(each[2][0]))
