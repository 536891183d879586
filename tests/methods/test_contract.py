"""What every part and every method owes. The suite finds them: parts in the registry, methods in configs/.

A part is tested in the smallest model that has it, with its defaults; a method by its model part in
configs/_base_/models, and by one of its configs for a dataset. Towers and words are random numbers.
"""

import copy
import dataclasses
import inspect
from functools import cache

import pytest
import torch
from helpers import COLOUR_REGIONS, CONFIGS, WORDS, peer_demos, random_model, sample
from mmengine.config import Config
from mmseg.registry import MODELS
from torch.nn import functional as F

from mmseg_sclip.engine.flops import count
from mmseg_sclip.errors import ConfigError
from mmseg_sclip.models import Affinity, Attention, Decoder, Head, Part, Propagation, Record, Refinement, Stitch
from mmseg_sclip.models.attention import CompanionAttention, Projection
from mmseg_sclip.models.methods.sfp import OutlierDetector
from mmseg_sclip.visual.bound_attention import OWN, bind_attention

CSA, VANILLA = dict(type='CorrelativeSelfAttention'), dict(type='VanillaSelfAttention')
# Arguments of parts that have no default for them, or do nothing by their defaults.
ARGUMENTS = dict(
    LastBlock=dict(attention=VANILLA),
    ParallelPath=dict(attention=VANILLA),
    CompanionGrid=dict(attention=dict(type='ProxyAttention')),
    UnprojectedGrid=dict(attention=dict(type='ProxyAttention')),
    CorrCLIPDecoder=dict(attention=dict(type='RegionScopedAttention')),
    SelfCalibratedDecoder=dict(attention=dict(type='SelfCalibratedAttention')),
    OwnProjection=dict(name='v'),
    ResidualCrossCorrelation=dict(base=VANILLA),
    SemanticFeedback=dict(base=VANILLA),
    MaskCLIPHead=dict(pd_thresh=0.3, ks_thresh=0.9),
)
# Parts that only work with another one: the keys of its place, and its config.
WITH = dict(
    EarlyLayerFusionHead=('backbone.decoder', dict(type='EarlyLayerFusion')),
    SpliceThenSegment=('backbone.decoder', dict(type='UnprojectedGrid', attention=dict(type='ProxyAttention'))),
)
# Parts of trained peers: the towers of their smallest model, which is the one of these towers' demo.
TOWERS = dict(
    GroupDecoder='GroupViTSource', GroupPaintingHead='GroupViTSource', MaskDecoder='TclSource', MaskHead='TclSource'
)
# The second networks that parts read by their defaults.
COMPANIONS = {
    **{name: dict(type='FilterBank', patch_size=8) for name in ('dino', 'sam', 'encoder')},
    'regions': dict(type='ColourRegions', **COLOUR_REGIONS),
}
# Where a part sits in a model: the keys of its place, and what is around it there.
SEATS = {
    CompanionAttention: ('backbone.decoder', lambda part: dict(type='CompanionGrid', attention=part)),
    Attention: ('backbone.decoder', lambda part: dict(type='LastBlock', attention=part)),
    Projection: ('backbone.decoder', lambda part: dict(type='LastBlock', attention=dict(CSA, projections=[part]))),
    OutlierDetector: (
        'backbone.decoder',
        lambda part: dict(type='SelfCalibratedDecoder', attention=dict(type='PurifiedAttention', detector=part)),
    ),
    Decoder: ('backbone.decoder', lambda part: part),
    Head: ('decode_head', lambda part: part),
    Affinity: ('test_cfg.refine', lambda part: [dict(type='SegmentVoting', affinity=part, eps=0.3, min_points=3)]),
    Refinement: ('test_cfg.refine', lambda part: [part]),
    Stitch: ('stitch', lambda part: part),
    Propagation: ('propagation', lambda part: part),
}
OPTIONAL = {'DenseCRF': 'pydensecrf'}
IMAGES = torch.randn(2, 3, 96, 112, generator=torch.Generator().manual_seed(0))


@MODELS.register_module()
class ToyContract(Attention):
    """A new method: sharper keys of an earlier block, sharper still where the pass before was sure of something."""

    passes = 2

    def bind(self, tower):
        super().bind(tower)
        self.needs |= {2}

    def terms(self, b):
        sharp = 2.0 if b.feedback is None else 2 + b.feedback.scores.amax(dim=(1, 2, 3))[:, None, None, None]
        return [sharp * (F.normalize(b.earlier(3).k, dim=-1) @ F.normalize(b.k, dim=-1).transpose(-1, -2))]


def registered():
    """The parts of this package and of this file, by name."""
    kinds = {name: cls for name, cls in MODELS.module_dict.items() if inspect.isclass(cls) and issubclass(cls, Part)}
    return {name: cls for name, cls in kinds.items() if cls.__module__.startswith(('mmseg_sclip.', __name__))}


def smallest(name):
    """The config of a small model with this part."""
    cls = registered()[name]
    model = dict(
        type='SCLIPSegmentor',
        backbone=dict(type='CLIPVisionTransformer', decoder=dict(type='LastBlock', attention=CSA)),
        decode_head=dict(type='TextSimilarityHead', vocabulary=WORDS, background_index=0),
        companions=COMPANIONS,
        test_cfg=dict(mode='whole', prob_thd=0.1, keep_scores=True),
    )
    config = Config(dict(model=model))
    if name in TOWERS:
        demo = peer_demos()[TOWERS[name]].model
        config.model.clip, config.model.backbone = demo.clip, demo.backbone  # `update` would mix them
        config.model.decode_head.type = demo.decode_head.type
        config.model.test_cfg.logit_scale = demo.test_cfg.logit_scale
    if issubclass(cls, (Stitch, Propagation)):
        config.model.test_cfg.update(mode='slide', crop_size=(64, 80), stride=(32, 32))
    place, around = next(seat for base, seat in SEATS.items() if issubclass(cls, base))
    seated = around(dict(type=name, **ARGUMENTS.get(name, {})))
    if issubclass(cls, Head):
        seated |= dict(vocabulary=WORDS, background_index=0)
        config.model.test_cfg.logit_scale = None if cls.gives_class_scores else 40
    for where, entry in (place, seated), WITH.get(name, ('backbone', {})):
        replaces = where.split('.')[0] in config.model and 'type' in entry
        config.merge_from_dict({f'model.{where}': {**entry, '_delete_': True} if replaces else entry})
    return config


def of_method(path):
    """A config from configs/, with fewer words: the model part of a method, or a method on a dataset."""
    config = Config.fromfile(path)
    config.model.decode_head.update(vocabulary=WORDS, class_names=None)
    config.model.test_cfg.keep_scores = True
    return config


BASES = sorted((CONFIGS / '_base_' / 'models').glob('*.py'))
LEAVES = sorted([*CONFIGS.glob('*_voc21.py'), *CONFIGS.glob('*/*_voc21.py'), *CONFIGS.glob('*/*official_voc20.py')])
CASES = {
    **{name: (smallest, name) for name in sorted(registered())},
    **{f'{path.parent.name}/{path.stem}': (of_method, path) for path in BASES + LEAVES},
}


def tower_of(config):
    """The kind of random tower that is as deep as that of a config."""
    large = 'L-14' in str(config.model.get('clip'))
    return dict(layers=24, patch_size=14, width=64) if large else dict(layers=12)


@pytest.fixture(scope='module')
def built(random_towers):
    """`built('PAMR')` is the model of a case, `built('PAMR', 'bf16')` that in another precision; not to be changed."""
    kept = {}

    def build(case, precision='fp32'):
        if (case, precision) not in kept:
            make, what = CASES[case]
            if what in OPTIONAL:
                pytest.importorskip(OPTIONAL[what])
            config = make(what)
            source = random_towers(config, **tower_of(config))
            if precision != 'fp32':
                source = copy.copy(source)  # with the same weights
                source.config, source._image_towers = dataclasses.replace(source.config, precision=precision), {}
                del source.__dict__['visual']
            kept[case, precision] = random_model(config, source)
        return kept[case, precision]

    return build


@cache
def recorded(tower):
    """The outputs of all blocks; models of one tower share them."""
    return tower.record(IMAGES, range(tower.depth + 1))


def full_record(model):
    """With the outputs of all blocks, and without what other parts have computed."""
    tower = model.backbone.tower
    return part_of(recorded(tower).read_by(model.companions), range(tower.depth + 1))


def part_of(record, numbers):
    """The same record with some of its outputs."""
    outputs = {number: record[number].clone() for number in numbers}
    return Record(record.tower, record.images, record.grid, outputs, record.places).read_by(record.companions)


def run(model, record):
    """Scores, and what refinements have seen; steps over all windows are left out, `predict` has them."""
    tokens, _ = model.backbone.decoder.run(record, model.decode_head.between_passes)
    seen = [refinement.look(record) for refinement in model.refinements]
    return [tokens.patches, model.decode_head(tokens), *(value for value in seen if value is not None)]


def close(ours, theirs, atol=1e-4):
    torch.testing.assert_close(ours, theirs, atol=atol, rtol=1e-4)


def attentions(model, record):
    """Each attention of a model, with what it sees in the last block."""
    decoder, feedback = model.backbone.decoder, [None]
    if decoder.passes > 1:
        feedback.append(decoder.run(record, model.decode_head.between_passes)[1])
    for attention in (module for module in decoder.modules() if isinstance(module, Attention)):
        for given in feedback:
            yield attention, decoder.block_input(record.tower.depth, record, given)


def batch_equals_one_by_one(model):
    """Windows of a batch and images of a list do not look at each other; neither need be square."""
    together, patch = model._forward(IMAGES), model.backbone.tower.patch_size[0]
    decoder = model.backbone.decoder
    grid = tuple(side // patch * decoder.places for side in (96, 112))
    if model.decode_head.at_pixels:
        grid = (96, 112)
    elif hasattr(decoder, 'attention') and decoder.attention.companions:
        grid = (12, 14)
    assert together.shape == (2, model.decode_head.out_channels, *grid)
    close(together, torch.cat([model._forward(image[None]) for image in IMAGES]))
    assert (together[0] - together[1]).abs().max() > 1e-4
    images = [IMAGES[0], IMAGES[1].transpose(1, 2), IMAGES[1]]
    results = model.predict(images, [sample((40, 50)) for _ in images])
    for image, result in zip(images, results, strict=True):
        (alone,) = model.predict([image], [sample((40, 50))])
        assert (alone.pred_sem_seg.data == result.pred_sem_seg.data).float().mean() > 0.99
        close(alone.seg_logits.data, result.seg_logits.data, 1e-3)


def attend_is_weights_times_values(model):
    """`attend(b)` is `weights(b) @ b.v`, in float32; nothing of `b` is changed."""
    for attention, b in attentions(model, full_record(model)):
        before = [x.clone() for x in (b.q, b.k, b.v, b.x)]
        attended, weights = attention.attend(b), attention.weights(b)
        assert weights.dtype == torch.float32
        assert weights.shape in [(2, heads, *b.v.shape[2:3] * 2) for heads in (1, b.v.shape[1])]
        close(attended, weights @ b.v, 1e-5)
        close(attention.weights(b, mix=torch.clone), weights, 1e-5)
        assert all(torch.equal(*pair) for pair in zip(before, (b.q, b.k, b.v, b.x), strict=True))


def the_record_is_not_changed(model):
    """Neither the outputs nor the images are, and a second run gives the same."""
    record = full_record(model)
    images, before = IMAGES.clone(), [record[number].clone() for number in range(record.tower.depth + 1)]
    first, again = run(model, record), run(model, part_of(record, range(record.tower.depth + 1)))
    assert all(torch.equal(*pair) for pair in zip(first, again, strict=True))
    assert all(torch.equal(record[number], output) for number, output in enumerate(before))
    assert torch.equal(record.images, images)


def needs_are_honoured(model):
    """What the parts need is enough, and no entry can be spared."""
    record = full_record(model)
    for ours, theirs in zip(run(model, part_of(record, model.needs)), run(model, record), strict=True):
        assert torch.equal(ours, theirs)
    for number in model.needs:
        with pytest.raises(LookupError, match=f'output of block {number} is not recorded'):
            run(model, part_of(record, model.needs - {number}))


def autocast_changes_no_score(model):
    """Heads and labels stay in float32, and decoders near to it; attention maps are float32."""
    record = full_record(model)
    tokens, _ = model.backbone.decoder.run(record, model.decode_head.between_passes)
    scores, pixels = model.decode_head(tokens), model.score(IMAGES, [sample((40, 50))] * 2)[0]
    labelled = model.label(pixels, IMAGES[0], sample((40, 50)))
    with torch.autocast('cpu', torch.bfloat16):
        again = model.decode_head(tokens)
        relabelled = model.label(pixels, IMAGES[0], sample((40, 50)))
        rough = model.encode(IMAGES)
        maps = [attention.weights(b) for attention, b in attentions(model, record)]
        rescored = model.decode_head(rough)
    assert torch.equal(again, scores) and rescored.dtype == torch.float32
    assert torch.equal(relabelled.seg_logits.data, labelled.seg_logits.data)
    assert all(weights.dtype == torch.float32 for weights in maps)
    assert F.cosine_similarity(rough.patches.float(), tokens.patches, dim=-1).mean() > 0.98


def pictures_agree_with_the_evaluation(model):
    """The map that pictures show in a block, times the values, is what this block hands on."""
    if not hasattr(model.backbone.decoder, 'attention'):
        with pytest.raises(ConfigError, match='has no attention of its own'):
            bind_attention(model, OWN)
        return
    record, seen = full_record(model), []
    bound = bind_attention(model, OWN)
    tower, merge = record.tower, record.tower.merge_heads
    tower.merge_heads = lambda number, heads: seen.append((number, heads)) or merge(number, heads)
    try:
        model.backbone.decoder.run(record, model.decode_head.between_passes)
    finally:
        del tower.merge_heads
    patches = record.grid[0] * record.grid[1]
    seen = [(number, heads) for number, heads in seen if heads.shape[2] >= patches]  # others are of tokens beside them
    feedback = bound.feedback(model, record)
    assert tower.depth in dict(seen)
    for number in dict(seen):
        b = model.backbone.decoder.block_input(number, record, feedback)
        shown = bound.weights(bound.block_input(number, record, feedback)) @ b.v
        handed_on = [heads for other, heads in seen if other == number]
        assert min((shown[:, :, -heads.shape[2] :] - heads).abs().max() for heads in handed_on) < 1e-5


CONTRACT = (
    batch_equals_one_by_one,
    attend_is_weights_times_values,
    the_record_is_not_changed,
    needs_are_honoured,
    autocast_changes_no_score,
    pictures_agree_with_the_evaluation,
)


def checks_of(case):
    """Every check of a part. A method's model part has fast parts inside, so all but the first of its are slow."""
    if case.endswith(('voc20', 'voc21')):
        return CONTRACT[:1]
    marks = [pytest.mark.slow] if case.startswith('models/') else []
    return [CONTRACT[0], *(pytest.param(check, marks=marks) for check in CONTRACT[1:])]


@pytest.mark.parametrize(
    'case, check',
    [
        pytest.param(case, *getattr(check, 'values', [check]), marks=getattr(check, 'marks', ()))
        for case in CASES
        for check in checks_of(case)
    ],
    ids=lambda value: getattr(value, '__name__', value),
)
@torch.no_grad()
def test_contract(built, case, check):
    check(built(case))


# What each check notices of a method that is wrong.
FAULTS = {
    batch_equals_one_by_one: ('terms', lambda self, b: [(b.q @ b.k.mT).flip(0)]),
    attend_is_weights_times_values: ('attend', lambda self, b: 1.01 * self.weights(b) @ b.v),
    the_record_is_not_changed: ('attend', lambda self, b: b.v * b.record[11].mul_(2).sign().abs().mean()),
    needs_are_honoured: ('needs', frozenset({1, 2, 11})),
    autocast_changes_no_score: ('weights', lambda self, b, mix=None: b.q @ b.k.mT),
    pictures_agree_with_the_evaluation: ('attend', lambda self, b: 1.01 * self.weights(b) @ b.v),
}


@pytest.mark.parametrize('check', CONTRACT, ids=lambda check: check.__name__)
@torch.no_grad()
def test_the_contract_notices(built, monkeypatch, check):
    model = built('ToyContract')
    check(model)
    name, wrong = FAULTS[check]
    owner = model.backbone.decoder if name == 'needs' else ToyContract
    monkeypatch.setattr(owner, name, wrong)
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        check(model)


@pytest.mark.slow
@pytest.mark.parametrize('case', [case for case in CASES if not case.endswith(('voc20', 'voc21'))])
@torch.no_grad()
def test_bfloat16_is_near_float32(built, case):
    if 'type' in (CASES[case][0](CASES[case][1]).model.get('clip') or {}):
        pytest.skip('The networks of trained peers run in float32.')
    exact, rough = (built(case, precision).encode(IMAGES) for precision in ('fp32', 'bf16'))
    assert rough.patches.dtype == torch.bfloat16
    assert F.cosine_similarity(rough.patches.float(), exact.patches, dim=-1).mean() > 0.98
    assert built(case, 'bf16').decode_head(rough).dtype == torch.float32


@pytest.mark.slow
@pytest.mark.parametrize('path', BASES, ids=lambda path: path.stem)
def test_the_cost_of_each_method_is_counted(path, random_towers):
    """On a device without numbers, for an image of 375 x 500 pixels."""
    config = Config.fromfile(CONFIGS / 'sclip_voc21.py')
    config.model = of_method(path).model
    if (kind := config.model.clip.get('type')) not in peer_demos():
        clip = random_towers(config, **tower_of(config)).config
        config.model.clip = dict(model_name=clip.model_name, pretrained=None)
    else:
        config.model.clip = peer_demos()[kind].model.clip
    cost = count(config, (375, 500))
    most = 1000 if config.model.get('companions') else 2  # a second network is not as small as this CLIP
    assert 0.5 * cost.clip_per_window < cost.per_window < most * cost.clip_per_window


def test_each_kind_of_part_has_a_seat():
    assert not [name for name, cls in registered().items() if not issubclass(cls, tuple(SEATS))]
