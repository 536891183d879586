"""Attentions by what people write."""

import pytest
from mmseg.registry import MODELS

from mmseg_sclip.attention_maps import bind_strategy, parse_attention
from mmseg_sclip.attention_maps.strategies import describe
from mmseg_sclip.models.attention import CorrelativeSelfAttention, LocalSelfAttention, VanillaSelfAttention


@pytest.mark.parametrize(
    'text, config',
    [
        ('VanillaSelfAttention', dict(type='VanillaSelfAttention')),
        (' LocalSelfAttention(window=5) ', dict(type='LocalSelfAttention', window=5)),
        ("dict(type='LocalSelfAttention', window=5)", dict(type='LocalSelfAttention', window=5)),
        ("{'type': 'LocalSelfAttention', 'window': 5}", dict(type='LocalSelfAttention', window=5)),
        (
            "CorrelativeSelfAttention(projections=['q', dict(type='RandomProjection', count=2)], tau=-1.5)",
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
    assert describe(dict(type='CorrelativeSelfAttention', projections=['q', 'k'])) == 'CorrelativeSelfAttention'
    assert describe(dict(type='LocalSelfAttention', window=5)) == 'LocalSelfAttention(window=5)'


def test_the_nearest_name_is_proposed(model):
    with pytest.raises(ValueError, match="Did you mean 'VanillaSelfAttention'"):
        bind_strategy(model, 'VanilaSelfAttention')
    with pytest.raises(ValueError, match="Did you mean 'window'"):
        bind_strategy(model, 'LocalSelfAttention(windw=5)')
    with pytest.raises(ValueError, match='is no Attention'):
        bind_strategy(model, 'LastBlock')


def test_the_model_is_not_changed(model):
    decoder = model.backbone.decoder
    attention, needs = decoder.attention, decoder.needs
    bound = bind_strategy(model, 'EarlierAttention(block=1)')
    assert model.backbone.decoder is decoder and decoder.attention is attention and decoder.needs == needs
    assert bound.attention.needs == {0}
    assert bound.decoder.attention is bound.attention is not attention


def test_entries(model):
    config = dict(backbone=dict(decoder=dict(attention=dict(type='CorrelativeSelfAttention', gain=2))))
    own = bind_strategy(model, 'config', config)
    assert own.attention is model.backbone.decoder.attention
    assert own.label == 'CorrelativeSelfAttention(gain=2)'
    assert bind_strategy(model, 'config').label == 'CorrelativeSelfAttention'
    assert isinstance(bind_strategy(model, dict(type='LocalSelfAttention')).attention, LocalSelfAttention)
    instance = VanillaSelfAttention()
    assert bind_strategy(model, instance).attention is instance


def test_a_decoder_without_attention(model, monkeypatch):
    class TwoPasses(CorrelativeSelfAttention):
        passes = 2

    monkeypatch.delattr(model.backbone.decoder, 'attention')
    assert bind_strategy(model, 'VanillaSelfAttention').decoder is None
    with pytest.raises(ValueError, match='has no attention of its own'):
        bind_strategy(model, 'config')
    with pytest.raises(ValueError, match='wants 2 passes'):
        bind_strategy(model, TwoPasses())


def test_registered_by_the_user(model):
    @MODELS.register_module(force=True)
    class SomebodysAttention(VanillaSelfAttention):
        pass

    try:
        assert bind_strategy(model, 'SomebodysAttention').label == 'SomebodysAttention'
    finally:
        MODELS.module_dict.pop('SomebodysAttention')
