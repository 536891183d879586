"""Attentions by what people write."""

import pytest
from mmseg.registry import MODELS

from mmseg_sclip.config import load_config
from mmseg_sclip.errors import ConfigError
from mmseg_sclip.models.attention import CorrelativeSelfAttention, VanillaSelfAttention
from mmseg_sclip.models.methods.sclip_ablations import LocalSelfAttention
from mmseg_sclip.visual.attention_names import parse_attention
from mmseg_sclip.visual.bound_attention import bind_attention

CSA = dict(type='CorrelativeSelfAttention')
LOCAL = dict(type='LocalSelfAttention', window=5)
RANDOM = dict(CSA, projections=['q', dict(type='RandomProjection', count=2)], tau=-1.5)


@pytest.mark.parametrize(
    'text, config',
    [
        ('vanillaselfattention', dict(type='VanillaSelfAttention')),
        ('CLIP', dict(type='VanillaSelfAttention')),
        ("sclip(projections='q')", dict(CSA, projections='q')),
        (' LocalSelfAttention(window=5) ', LOCAL),
        ("dict(type='LocalSelfAttention', window=5)", LOCAL),
        ("{'type': 'LocalSelfAttention', 'window': 5}", LOCAL),
        ("SCLIP(projections=['q', dict(type='RandomProjection', count=2)], tau=-1.5)", RANDOM),
    ],
)
def test_what_can_be_written(text, config):
    assert parse_attention(text) == config


UNREADABLE = ['', 'A B', 'A(', 'A(5)', 'A(**x)', 'A(x=open("x"))', '5', 'dict(window=5)', '[1]', 'a.b(c=1)', '{1: 2}']


@pytest.mark.parametrize(
    'text, message',
    [
        *((text, r'LocalSelfAttention\(window=5\)') for text in UNREADABLE),
        ('VanilaSelfAttention', "Did you mean 'VanillaSelfAttention'"),
        ('MaskClp', "Did you mean 'MaskCLIP'"),
        ('nothing like it', 'cannot be read'),
        ('LastBlock', 'LastBlock is not an Attention. Known: .*MaskCLIP'),
        ('LocalSelfAttention(windw=5)', "Did you mean 'window'"),
    ],
)
def test_what_is_refused(model, text, message):
    with pytest.raises(ConfigError, match=message):
        bind_attention(model, text)


def test_the_model_is_not_changed(model):
    decoder = model.backbone.decoder
    attention, needs = decoder.attention, decoder.needs
    bound = bind_attention(model, 'EarlierAttention(block=1)')
    assert model.backbone.decoder is decoder and decoder.attention is attention and decoder.needs == needs
    assert bound.attention.needs == {0}
    assert bound.decoder.attention is bound.attention is not attention


def test_entries_and_their_labels(model, monkeypatch):
    """A label has what differs from the defaults."""
    own = bind_attention(model, 'config', dict(backbone=dict(decoder=dict(attention=dict(CSA, gain=2)))))
    assert own.attention is model.backbone.decoder.attention and own.label == 'CorrelativeSelfAttention(gain=2)'
    assert bind_attention(model, 'config').label == 'CorrelativeSelfAttention'
    assert bind_attention(model, dict(CSA, projections=['q', 'k'])).label == 'CorrelativeSelfAttention'
    local = bind_attention(model, LOCAL)
    assert isinstance(local.attention, LocalSelfAttention) and local.label == 'LocalSelfAttention(window=5)'
    instance = VanillaSelfAttention()
    assert bind_attention(model, instance).attention is instance
    somebodys = type('Somebodys', (VanillaSelfAttention,), {})
    monkeypatch.setitem(MODELS.module_dict, 'Somebodys', somebodys)
    assert isinstance(bind_attention(model, 'somebodys').attention, somebodys)


def test_a_decoder_without_attention(model, monkeypatch):
    monkeypatch.delattr(model.backbone.decoder, 'attention')
    assert bind_attention(model, 'VanillaSelfAttention').decoder is None
    with pytest.raises(ConfigError, match='has no attention of its own'):
        bind_attention(model, 'config')
    with pytest.raises(ConfigError, match='wants 2 passes'):
        bind_attention(model, type('TwoPasses', (CorrelativeSelfAttention,), dict(passes=2))())


@pytest.mark.parametrize('name', ['sc_clip_demo', 'sfp_demo', 'cliper_demo'])
def test_a_decoder_of_one_pass(name, monkeypatch):
    model = MODELS.build(load_config(name).model).eval()
    base = dict(type='SemanticFeedback', base=dict(type='NeighbourAttention'))
    with pytest.raises(ConfigError, match='wants 2 passes .* cannot make with it'):
        bind_attention(model, dict(type='ResidualCrossCorrelation', blocks=[2, 3], base=base))
    monkeypatch.setattr(type(model.backbone.tower), '__deepcopy__', lambda *_: pytest.fail('copied'), raising=False)
    bind_attention(model, 'CLIP')  # the tower is not copied
