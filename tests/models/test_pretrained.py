"""Files of weights: where they are found, what is said of missing ones, and how they are read."""

import re
from dataclasses import replace

import pytest
import tiny_companion
import torch
from helpers import lose_hub
from mmseg.registry import MODELS
from safetensors.torch import save_file

from mmseg_sclip.demo import WEIGHTS
from mmseg_sclip.errors import BadFileError, ConfigError, MissingFileError
from mmseg_sclip.models import hub
from mmseg_sclip.models.clip import ClipSource
from mmseg_sclip.models.companions.base import load_frozen
from mmseg_sclip.models.needed import check_weights, needed_weights
from mmseg_sclip.models.pretrained import Pretrained, weights_root
from mmseg_sclip.models.towers.released import ReleasedSource

FILE = Pretrained(
    what='Tiny ViT',
    setting='model.clip.pretrained',
    name='clip',
    names=('tiny.pth', 'model.safetensors'),
    repository='org/tiny',
    hub_names=('model.safetensors', 'pytorch_model.bin'),
    published='https://example.org/tiny.pth',
)
NAME_IT = r'name the file with --weights clip=FILE \(model.clip.pretrained in a config\)'
WHERE = r'published at https://example.org/tiny.pth'
NAMED = NAME_IT.replace('the file', f'the file, {WHERE},')


@pytest.fixture
def offline(monkeypatch, tmp_path, fresh_cache):
    """A hub that cannot be reached, and empty caches."""
    lose_hub(monkeypatch, tmp_path)


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def test_a_file_is_found_in_the_best_place_without_asking_the_hub(offline, monkeypatch, tmp_path):
    monkeypatch.setattr(hub, 'get_session', None)
    touch(weights_root() / 'model.safetensors')  # which may be of any network
    assert FILE.locate() is None
    cached, asked = touch(tmp_path / 'snapshot' / 'pytorch_model.bin'), []

    def look_up(*file, cache_dir):
        asked.append((*file, cache_dir))
        return str(cached) if file[1] == cached.name else None

    monkeypatch.setattr(hub, 'try_to_load_from_cache', look_up)
    assert replace(FILE, cache_dir='/c').locate() == ('hub cache', cached)
    assert asked == [('org/tiny', 'model.safetensors', '/c'), ('org/tiny', 'pytorch_model.bin', '/c')]
    for name in ('org/tiny/model.safetensors', 'tiny.pth'):
        path = touch(weights_root() / name)
        assert FILE.locate() == ('weights folder', path) and FILE.fetch() == path
    given = replace(FILE, given='~/own.pth')
    assert given.locate() is None
    own = touch(tmp_path / 'home' / 'own.pth')
    assert given.locate() == ('named', own)


@pytest.mark.parametrize(
    'changes, words',
    [
        (
            {},
            r' and could not be downloaded \(https:\S+ cannot be reached: Name or service not known; HF_ENDPOINT names '
            rf'a mirror\): copy tiny.pth, {WHERE}, into ROOT, or {NAME_IT}',
        ),
        (dict(repository=None), rf': copy tiny.pth, {WHERE}, into ROOT, or {NAME_IT}'),
        (dict(names=()), rf' and .*: copy model.safetensors or pytorch_model.bin, {WHERE}, into ROOT/org/tiny, or .*'),
        (
            dict(given='no.pth'),
            rf": model.clip.pretrained names 'no.pth', which is not there; correct it, or {NAMED}",
        ),
        (dict(given='.'), rf": model.clip.pretrained names '.', which is a folder; correct it, or {NAMED}"),
        (
            dict(setting='pretrained', name='', repository=None),
            r'.* or .* NAME=FILE \(model.companions.*.pretrained .*',
        ),
    ],
)
def test_a_missing_file_is_one_sentence(offline, changes, words):
    with pytest.raises(MissingFileError) as caught:
        replace(FILE, **changes).fetch()
    said = re.escape(str(weights_root()))
    assert re.fullmatch(f'The weights of Tiny ViT are missing{words.replace("ROOT", said)}[.]', str(caught.value))


STATE = dict(weight=torch.randn(6, 3, 4, 4), bias=torch.zeros(6))
FILES = {
    'damaged': (lambda path: path.write_bytes(tiny_companion.write_weights(path).read_bytes()[:-50]), 'cannot be read'),
    'cut': (
        lambda path: (torch.save(STATE, path), path.write_bytes(path.read_bytes()[:-300])),
        r'cannot be read as weights \(its end is missing\)',
    ),
    'empty': (lambda path: path.touch(), r'cannot be read as weights \(it is empty\)'),
    'a page': (lambda path: path.write_text('\n<!DOCTYPE html><html>'), r'cannot be .* \(it is a web page\)'),
    'a pointer': (lambda path: path.write_text('version https://git-lfs.github.com/spec/v1\n'), 'pointer of Git LFS'),
    'a list': (lambda path: torch.save([1], path), 'no state dict of tensors, where Tiny ViT was expected.*--weights '),
    'NaN': (
        lambda path: torch.save({'model': {**STATE, 'bias': torch.full((6,), torch.nan)}}, path),
        "'bias' holds NaN",
    ),
    'other shapes': (
        lambda path: save_file(dict(weight=torch.zeros(6, 3, 8, 8), head=torch.zeros(1)), path),
        'do not fit .* Tiny ViT: weight is 6x3x8x8 in the file and 6x3x4x4 in the model; bias is missing in the file; '
        'head is unknown .*They are no weights of Tiny ViT: name the right file with --weights NAME=FILE',
    ),
    'right': (lambda path: torch.save({'model': STATE, 'epoch': 3}, path), None),
}


@pytest.mark.parametrize('kind', FILES)
def test_a_file_is_read_or_named(fresh_cache, tmp_path, kind):
    write, words = FILES[kind]
    write(tmp_path / 'own.pth')
    companion = tiny_companion.TinyCompanion(str(tmp_path / 'own.pth'))
    if words is None:
        companion.load()
        assert torch.equal(companion.network.weight, STATE['weight'])
        return
    with pytest.raises(BadFileError, match=f'{re.escape(str(tmp_path / "own.pth"))} .*{words}'):
        companion.load()
    with pytest.raises(BadFileError) as caught:
        load_frozen(companion, name='tiny')
    assert 'companions.*' not in str(caught.value) and 'NAME' not in str(caught.value)


def test_where_the_weights_of_a_clip_may_lie(offline, tmp_path, monkeypatch):
    """They are found without being fetched, and random ones are no file."""
    monkeypatch.setattr(hub, 'get_session', None)
    openai = ClipSource(model_name='ViT-B-16-quickgelu', pretrained='openai').pretrained
    assert openai.locate() is None and openai.names == ('ViT-B-16.pt',)
    archive = touch(tmp_path / 'home' / '.cache' / 'clip' / 'ViT-B-16.pt')
    assert openai.locate() is None  # it has not the hash of its address
    monkeypatch.setattr('mmseg_sclip.models.clip.weights_file.file_hash', lambda path: '5806e77cd80f8b59')
    assert openai.locate() == ("OpenAI's cache", archive)
    laion = dict(model_name='ViT-B-16', pretrained='laion2b_s34b_b88k')
    copy = touch(weights_root() / 'laion/CLIP-ViT-B-16-laion2B-s34B-b88K' / 'open_clip_pytorch_model.bin')
    assert ClipSource(**laion).pretrained.locate() == ('weights folder', copy)
    assert ClipSource(model_name='builtin:demo').pretrained.locate() == ('shipped', WEIGHTS)
    assert ClipSource(model_name='ViT-B-16').pretrained is None
    (own,) = needed_weights(dict(clip=dict(model_name='hf-hub:org/clip'))).values()  # the hub is not asked
    assert own.locate() is None and own.repository == 'org/clip' and '--model-name local-dir:' in own.missing()


class TwoFiles(ReleasedSource):
    """A source of an encoder and of references."""

    release = replace(FILE, repository=None)

    def __init__(self, pretrained='released', references='references.pth'):
        super().__init__(pretrained, mean=(0.0,), std=(1.0,))
        self.references = references

    @property
    def all_pretrained(self):
        own = dict(what='references', setting='model.clip.references', given=self.references)
        return {**super().all_pretrained, 'references': Pretrained(**own)}


MODELS.register_module(module=TwoFiles)


def test_a_source_of_two_files_and_a_companion(offline, tmp_path):
    model = dict(clip=dict(type='TwoFiles'), companions=dict(tiny=dict(type='TinyCompanion')))
    needed = needed_weights(model)
    assert {name: (file.name, file.setting) for name, file in needed.items()} == dict(
        clip=('clip', 'model.clip.pretrained'),
        references=('references', 'model.clip.references'),
        tiny=('tiny', 'model.companions.tiny.pretrained'),
    )
    with pytest.raises(
        MissingFileError, match=r'of Tiny ViT are .*2 more files are missing, too; `mmseg-sclip weights'
    ):
        check_weights(model)
    for name in ('encoder.pth', 'references.pth'):
        tiny_companion.write_weights(tmp_path / name)
    model['clip'] |= {'pretrained': str(tmp_path / 'encoder.pth'), 'references': str(tmp_path / 'references.pth')}
    with pytest.raises(
        MissingFileError, match=r'Tiny ViT .* --weights tiny=FILE .model.companions.tiny.pretrained in a '
    ):
        check_weights(model)
    identity = TwoFiles(**{key: value for key, value in model['clip'].items() if key != 'type'}).weights_identity()
    tiny_companion.write_weights(tmp_path / 'references.pth', seed=1)
    other = TwoFiles(**{key: value for key, value in model['clip'].items() if key != 'type'}).weights_identity()
    assert identity['files']['references']['sha256'] != other['files']['references']['sha256']
    assert identity['sha256'] == other['sha256'] is not None


def test_what_can_be_downloaded_is_told_only_where_the_hub_cannot_be_reached(offline, monkeypatch):
    model = dict(companions=dict(tiny=dict(type='TinyCompanion', hub='org/tiny')))
    with pytest.raises(MissingFileError, match='could not be downloaded'):
        check_weights(model, fetch=False)
    monkeypatch.setattr('mmseg_sclip.models.needed.why_unreachable', lambda: '')
    check_weights(model, fetch=False)
    model['companions']['other'] = dict(type='TinyCompanion')
    with pytest.raises(MissingFileError, match='--weights other=FILE'):  # first what no download helps
        check_weights(model, fetch=False)
    with pytest.raises(ConfigError, match='model.companions.tiny'):
        check_weights(dict(companions=dict(tiny=dict(type='TinyCompanio'))))
