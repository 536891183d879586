"""Attentions by what people write."""

import pytest
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS

from mmseg_sclip.config import load_config
from mmseg_sclip.errors import ConfigError
from mmseg_sclip.models.attention import CorrelativeSelfAttention, VanillaSelfAttention
from mmseg_sclip.models.methods.sclip_ablations import LocalSelfAttention
from mmseg_sclip.visual.attention_names import describe_attention, parse_attention
from mmseg_sclip.visual.bound_attention import bind_attention

RANDOM = "CorrelativeSelfAttention(projections=['q', dict(type='RandomProjection', count=2)], tau=-1.5)"
LOCAL = dict(type='LocalSelfAttention', window=5)


@pytest.mark.parametrize(
    'text, config',
    [
        ('vanillaselfattention', dict(type='VanillaSelfAttention')),
        ('CLIP', dict(type='VanillaSelfAttention')),
        ("sclip(projections='q')", dict(type='CorrelativeSelfAttention', projections='q')),
        (' LocalSelfAttention(window=5) ', LOCAL),
        ("dict(type='LocalSelfAttention', window=5)", LOCAL),
        ("{'type': 'LocalSelfAttention', 'window': 5}", LOCAL),
        (
            RANDOM,
            dict(
                type='CorrelativeSelfAttention',
                projections=['q', dict(type='RandomProjection', count=2)],
                tau=-1.5,
            ),
        ),
    ],
)
def test_what_can_be_written(text, config):
    assert parse_attention(text) == config


@pytest.mark.parametrize(
    'text',
    ['', 'A B', 'A(', 'A(5)', 'A(**x)', 'A(window=open("x"))', '5', 'dict(window=5)', '[1]', 'a.b(c=1)', '{1: 2}'],
)
def test_what_cannot(text):
    with pytest.raises(ValueError, match=r'LocalSelfAttention\(window=5\)'):
        parse_attention(text)


def test_labels_have_what_differs_from_the_defaults():
    default = dict(type='CorrelativeSelfAttention', projections=['q', 'k'])
    assert describe_attention(default) == 'CorrelativeSelfAttention'
    assert describe_attention(LOCAL) == 'LocalSelfAttention(window=5)'


@pytest.mark.parametrize(
    'text, message',
    [
        ('VanilaSelfAttention', "Did you mean 'VanillaSelfAttention'"),
        ('MaskClp', "Did you mean 'MaskCLIP'"),
        ('Scilp', "Did you mean 'SCLIP'"),
        ('nothing like it', 'cannot be read'),
        ('LastBlock', 'LastBlock is no Attention. Known: .*MaskCLIP'),
        ('LocalSelfAttention(windw=5)', "Did you mean 'window'"),
    ],
)
def test_the_nearest_name_is_proposed(model, text, message):
    with pytest.raises(ConfigError, match=message):
        bind_attention(model, text)


def test_the_model_is_not_changed(model):
    decoder = model.backbone.decoder
    attention, needs = decoder.attention, decoder.needs
    bound = bind_attention(model, 'EarlierAttention(block=1)')
    assert model.backbone.decoder is decoder and decoder.attention is attention and decoder.needs == needs
    assert bound.attention.needs == {0}
    assert bound.decoder.attention is bound.attention is not attention


def test_entries(model):
    config = dict(backbone=dict(decoder=dict(attention=dict(type='CorrelativeSelfAttention', gain=2))))
    own = bind_attention(model, 'config', config)
    assert own.attention is model.backbone.decoder.attention
    assert own.label == 'CorrelativeSelfAttention(gain=2)'
    assert bind_attention(model, 'config').label == 'CorrelativeSelfAttention'
    assert isinstance(bind_attention(model, dict(type='LocalSelfAttention')).attention, LocalSelfAttention)
    instance = VanillaSelfAttention()
    assert bind_attention(model, instance).attention is instance


def test_a_decoder_without_attention(model, monkeypatch):
    class TwoPasses(CorrelativeSelfAttention):
        passes = 2

    monkeypatch.delattr(model.backbone.decoder, 'attention')
    assert bind_attention(model, 'VanillaSelfAttention').decoder is None
    with pytest.raises(ValueError, match='has no attention of its own'):
        bind_attention(model, 'config')
    with pytest.raises(ValueError, match='wants 2 passes'):
        bind_attention(model, TwoPasses())


def build(name):
    init_default_scope('mmseg')
    return MODELS.build(load_config(name).model).eval()


@pytest.mark.parametrize('name', ['sc_clip_demo', 'sfp_demo', 'cliper_demo'])
def test_a_decoder_of_one_pass(name):
    base = dict(type='SemanticFeedback', base=dict(type='NeighbourAttention'))
    with pytest.raises(ConfigError, match='wants 2 passes .* cannot make with it'):
        bind_attention(build(name), dict(type='ResidualCrossCorrelation', blocks=[2, 3], base=base))


def test_the_tower_is_not_copied(monkeypatch):
    model = build('sfp_demo')
    monkeypatch.setattr(type(model.backbone.tower), '__deepcopy__', lambda *_: pytest.fail('copied'), raising=False)
    bind_attention(model, 'CLIP')


def test_registered_by_the_user(model):
    @MODELS.register_module(force=True)
    class SomebodysAttention(VanillaSelfAttention):
        pass

    try:
        assert bind_attention(model, 'SomebodysAttention').label == 'SomebodysAttention'
    finally:
        MODELS.module_dict.pop('SomebodysAttention')
