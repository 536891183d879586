"""`--model-name`, `--pretrained` and `--weights NAME=FILE` in one config and in several."""

import pytest
import tiny_companion  # noqa: F401  which registers itself
import tiny_source  # noqa: F401
from mmengine.config import Config
from mmseg.registry import MODELS

from mmseg_sclip.cli.arguments.test import parse
from mmseg_sclip.errors import ConfigError, UsageError
from mmseg_sclip.model_flags import apply_model_flags, apply_model_flags_to_all
from mmseg_sclip.models.pretrained import Pretrained
from mmseg_sclip.models.towers.released import ReleasedSource

TINY = dict(type='TinyCompanion')


@MODELS.register_module()
class PeerSource(ReleasedSource):
    release = Pretrained(what='Peer', setting='model.clip.pretrained', names=('peer.pth',))

    def __init__(self, pretrained='released'):
        super().__init__(pretrained, mean=(0.0,), std=(1.0,))


def config(clip=None, **companions):
    clip = dict(model_name='ViT-B-16-quickgelu', pretrained='openai') if clip is None else dict(type=clip)
    return Config(dict(model=dict(clip=clip, companions=companions)))


def named(one):
    """What a config names, by network."""
    companions = {name: own.get('pretrained') for name, own in one.model.companions.items()}
    return dict(clip=one.model.clip.get('pretrained'), **companions)


def test_flags_are_parsed_once_for_each_name():
    given = ['sclip_demo', '--weights', 'tiny=a=b.pth', '--weights', 'clip=c.pt']
    assert parse(given).weights == {'tiny': 'a=b.pth', 'clip': 'c.pt'}
    assert parse(['sclip_demo']).weights is None
    for wrong in ('tiny', '=a', 'tiny='):
        with pytest.raises(UsageError, match=f'--weights {wrong}: it takes NAME=FILE'):
            parse(['sclip_demo', '--weights', wrong])
    with pytest.raises(UsageError, match='names tiny twice: a and b'):
        parse(['sclip_demo', '--weights', 'tiny=a', '--weights', 'tiny=b'])


@pytest.mark.parametrize(
    'clip, pretrained, weights, wanted',
    [
        (None, 'c.pt', dict(tiny='t.pth'), dict(clip='c.pt', tiny='t.pth', other=None)),
        (None, None, dict(clip='c.pt', other='o.pth'), dict(clip='c.pt', tiny=None, other='o.pth')),
        ('PeerSource', 'p.pth', {}, dict(clip='p.pth', tiny=None, other=None)),
        ('PeerSource', 'p.pth', dict(clip='p.pth', tiny='t'), dict(clip='p.pth', tiny='t', other=None)),
    ],
)
def test_files_are_named_in_the_config(clip, pretrained, weights, wanted):
    one = config(clip, tiny=dict(TINY), other=dict(TINY, pretrained=None))
    apply_model_flags(one, None, pretrained, weights)
    assert named(one) == wanted


def test_a_network_without_published_weights_gets_a_file():
    one = config(dino=dict(type='TimmCompanion', model='vit_base_patch16_224'))  # a name without a tag of weights
    apply_model_flags(one, None, None, dict(dino='own.pth'))
    assert named(one)['dino'] == 'own.pth'


WRONG = [
    (config(tiny=dict(TINY)), dict(weights=dict(tyny='a')), "of that name. Did you mean 'tiny'. Known: clip, tiny"),
    (config(), dict(weights=dict(dino='a')), '--weights dino=FILE: this config needs no weights.* Known: clip.$'),
    (config(), dict(pretrained='a', weights=dict(clip='b')), '--pretrained a and --weights clip=b contradict'),
    (config('PeerSource'), dict(model_name='ViT-L-14'), 'name a model of open_clip, but model.clip is a PeerSource'),
    (config(tiny=dict(type='FilterBank')), dict(weights=dict(tiny='a')), 'Known: clip.$'),
    (Config(dict(model=dict(type='EncoderDecoder'))), dict(pretrained='a'), "model.clip, which this config's model"),
    (Config(dict(model=dict(type='EncoderDecoder'))), dict(weights=dict(a='b')), 'Known: none'),
]


@pytest.mark.parametrize('one, flags, words', WRONG, ids=[words for *_, words in WRONG])
def test_what_fits_no_network_is_refused(one, flags, words):
    with pytest.raises(ConfigError, match=words):
        apply_model_flags(one, **{'model_name': None, 'pretrained': None, **flags})


def test_of_several_configs_those_get_a_file_that_need_it(capsys):
    configs = [('sclip', config()), ('proxy', config(tiny=dict(TINY))), ('peer', config('PeerSource'))]
    apply_model_flags_to_all(configs, None, 'c.pt', dict(tiny='t.pth'))
    assert [named(one) for _, one in configs] == [dict(clip='c.pt'), dict(clip='c.pt', tiny='t.pth'), dict(clip=None)]
    assert 'leave these configs alone, which have no CLIP of open_clip: peer.' in capsys.readouterr().err
    peers = [('first', config('PeerSource')), ('second', config('PeerSource'))]
    apply_model_flags_to_all(peers, None, 'p.pth')
    assert [named(one) for _, one in peers] == [dict(clip='p.pth')] * 2
    with pytest.raises(ConfigError, match='these configs need no weights of that name.* Known: clip, tiny'):
        apply_model_flags_to_all(configs, None, None, dict(dino='d.pth'))
    with pytest.raises(ConfigError, match='change a CLIP of open_clip, which none of these configs has'):
        apply_model_flags_to_all([*peers, ('tiny', config('TinySource'))], None, 'p.pth')


def test_one_name_for_two_networks_is_refused():
    large = dict(type='TimmCompanion', model='vit_base_patch8_224.dino')
    configs = [('proxy', config(dino=large)), ('other', config(dino=dict(TINY)))]
    with pytest.raises(ConfigError, match=r'several networks here: DINO .* in proxy, Tiny ViT in other.*put the files'):
        apply_model_flags_to_all(configs, None, None, dict(dino='d.pth'))
