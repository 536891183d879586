"""Text encoders and the disk cache of their vectors: what is encoded, what is read, and what is not believed."""

import hashlib
import json
import os
import shutil
import threading
import time

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from mmseg_sclip.files import file_hash
from mmseg_sclip.models.clip import ClipSource
from mmseg_sclip.models.text import TextBankCache, TextEncoder

CPU = torch.device('cpu')


class Encoder:
    """Writes down what it is asked for."""

    def __init__(self, seconds=0.0):
        self.asked, self.seconds = [], seconds

    def __call__(self, phrases):
        self.asked.append(list(phrases))
        time.sleep(self.seconds)
        return vectors(*phrases)


def vectors(*phrases):
    return torch.tensor([[float(len(phrase)), float(ord(phrase[0]))] for phrase in phrases])


def cache_in(folder):
    return TextBankCache(folder, dict(weights='a'))


@pytest.fixture
def said(monkeypatch):
    lines = []
    monkeypatch.setattr('mmseg_sclip.models.text.bank_cache.print_log', lambda text, **_: lines.append(text))
    return lines


def test_only_new_phrases_are_encoded_and_order_is_kept(tmp_path):
    encode = Encoder()
    for phrases in (['cat', 'dog'], ['owl', 'dog', 'cat'], ['dog']):
        assert torch.equal(cache_in(tmp_path).complete(phrases, encode), vectors(*phrases))
    assert encode.asked == [['cat', 'dog'], ['owl']]


class Attack:
    def __reduce__(self):
        return os.mkdir, ('ran',)


def flip(path):
    content = bytearray(path.read_bytes())
    content[-2] ^= 64
    path.write_bytes(content)


def save_for_another(path):
    content = torch.zeros(1, 2)
    digest = hashlib.sha256(content.numpy().tobytes()).hexdigest()
    save_file(dict(bank=content), path, metadata=dict(key='b', phrases='["cat"]', sha256=digest))


HARMS = dict(
    truncated=lambda path: path.write_bytes(path.read_bytes()[:-3]),
    one_bit=flip,
    text=lambda path: path.write_text('not a bank'),
    pickle=lambda path: torch.save(Attack(), path),
    other_key=save_for_another,
    other_tensors=lambda path: save_file(dict(weight=torch.zeros(3)), path),
)


@pytest.mark.parametrize('harm', HARMS)
def test_damaged_and_foreign_files_are_reported_and_replaced(tmp_path, monkeypatch, harm, said):
    monkeypatch.chdir(tmp_path)
    encode, cache = Encoder(), cache_in(tmp_path)
    cache.complete(['cat'], encode)
    HARMS[harm](cache.path)
    for _ in range(2):
        assert torch.equal(cache.complete(['cat'], encode), vectors('cat'))
    assert len(said) == 1 and str(cache.path) in said[0] and 'encoded again' in said[0]
    assert encode.asked == [['cat'], ['cat']]
    assert not (tmp_path / 'ran').exists()


def test_where_nothing_can_be_written_it_is_done_without(tmp_path, monkeypatch, said):
    (tmp_path / 'file').write_text('')
    assert torch.equal(cache_in(tmp_path / 'file' / 'banks').complete(['cat'], Encoder()), vectors('cat'))
    assert len(said) == 1 and 'MMSEG_SCLIP_CACHE' in said[0]

    def full(*args, **kwargs):
        raise SafetensorError('No space left on device')

    monkeypatch.setattr('mmseg_sclip.models.text.bank_cache.save_file', full)
    assert torch.equal(cache_in(tmp_path).complete(['cat'], Encoder()), vectors('cat'))
    assert len(said) == 2 and 'No space left' in said[1]


def test_an_interruption_keeps_finished_portions_and_an_error_of_the_encoder_is_its_own(tmp_path, monkeypatch, said):
    monkeypatch.setattr('mmseg_sclip.models.text.bank_cache._PORTION', 2)
    encode = Encoder()
    for error in (KeyboardInterrupt, OSError):

        def stop_at_third(phrases, error=error):
            if encode.asked:
                raise error
            return encode(phrases)

        with pytest.raises(error):
            cache_in(tmp_path).complete(['a', 'b', 'c', 'd'], stop_at_third)
    cache_in(tmp_path).complete(['a', 'b', 'c', 'd'], encode)
    assert encode.asked == [['a', 'b'], ['c', 'd']] and not said
    assert [path.suffix for path in tmp_path.iterdir() if path.suffix != '.lock'] == ['.safetensors']


def test_of_those_that_start_at_once_one_encodes_each_phrase(tmp_path):
    """The lock is one between open files, so threads stand in for processes."""
    encode, banks = Encoder(seconds=0.1), {}
    words = [('cat', 'dog'), ('dog', 'owl'), ('cat', 'owl', 'emu')]

    def start(phrases):
        banks[phrases] = cache_in(tmp_path).complete(phrases, encode)

    threads = [threading.Thread(target=start, args=(phrases,)) for phrases in words]
    for step in (threading.Thread.start, threading.Thread.join):
        for thread in threads:
            step(thread)
    assert all(torch.equal(banks[phrases], vectors(*phrases)) for phrases in words)
    assert sorted(sum(encode.asked, [])) == ['cat', 'dog', 'emu', 'owl']


class Letters(TextEncoder):
    """Vectors of prompts from their lengths and first letters."""

    built = 0

    def load(self):
        self.built += 1
        return torch.nn.Linear(2, 2, bias=False).requires_grad_(False)

    def embed(self, network, prompts):
        assert not torch.is_inference_mode_enabled()
        return 3 * vectors(*prompts)

    def identity(self):
        return dict(weights='a')


def test_an_encoder_averages_unit_vectors_and_its_network_is_there_while_it_encodes(tmp_path):
    encoder, templates = Letters(cache_dir=str(tmp_path)), ('a {}.', 'two of {}{')
    with torch.inference_mode():
        found = encoder.encode(['cat', '{}'], templates, CPU)
    rows = torch.stack([vectors(f'a {word}.', f'two of {word}{{') for word in ('cat', '{}')])  # (phrases, templates, 2)
    mean = (rows / rows.norm(dim=2, keepdim=True)).mean(1)
    torch.testing.assert_close(found, mean / mean.norm(dim=1, keepdim=True))
    assert encoder.network is None and encoder.built == 1
    assert torch.equal(encoder.encode(['{}', 'cat'], templates, CPU), found.flip(0)) and encoder.built == 1
    encoder.keep = True
    for words in (['cat'], ['dog']):  # in other templates all is encoded again
        encoder.encode(words, templates[:1], CPU)
    assert isinstance(encoder.network, torch.nn.Linear) and encoder.built == 2


def bank(words=('cat', 'dog'), **clip):
    return ClipSource(**clip).text_encoder().encode(list(words), ['a photo of a {}.'], CPU)


@pytest.fixture(scope='module')
def known(mini_clip, tmp_path_factory):
    """A cache and what it holds."""
    folder = tmp_path_factory.mktemp('known')
    return folder, bank(**mini_clip, cache_dir=str(folder))


@pytest.mark.parametrize(
    'change',
    [
        dict(activation='gelu'),
        dict(activation=dict(text='gelu')),
        dict(norm_eps=1e-3),
        dict(norm_eps=dict(text=1e-3)),
        dict(precision='bf16'),
        dict(model_name='other.json'),
        dict(model_name='gelu.json'),
        dict(pretrained='other.pt'),
    ],
    ids=str,
)
def test_whatever_changes_the_vectors_changes_the_file(
    known, mini_clip, mini_json, mini_state, tmp_path, monkeypatch, change
):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(known[0], 'cache')
    other = json.loads(mini_json.read_text())
    (tmp_path / 'gelu.json').write_text(json.dumps({**other, 'quick_gelu': False}))
    other['text_cfg']['heads'] = 2  # the same weights fit, but give other vectors
    (tmp_path / 'other.json').write_text(json.dumps(other))
    if 'pretrained' in change:
        torch.save({**mini_state, 'positional_embedding': mini_state['positional_embedding'] * 2}, 'other.pt')
    assert not torch.allclose(bank(**{**mini_clip, **change}, cache_dir='cache'), known[1], atol=1e-6)
    assert len(list((tmp_path / 'cache').rglob('*.safetensors'))) == 2


def test_what_changes_the_image_tower_alone_keeps_the_file_whose_text_tower_needs_no_memory(
    known, mini_clip, monkeypatch
):
    monkeypatch.setattr(ClipSource, 'text_tower', None)
    for change in ({}, dict(activation=dict(image='gelu')), dict(norm_eps=dict(image=1e-3))):
        assert torch.equal(bank(**mini_clip, cache_dir=str(known[0]), **change), known[1])


def test_random_weights_are_not_kept(mini_json, tmp_path):
    bank(model_name=mini_json, cache_dir=tmp_path)
    assert not list(tmp_path.rglob('*.safetensors'))


@pytest.mark.parametrize('keep_text', [False, True])
def test_vectors_are_not_stored_for_weights_edited_since(mini_json, mini_state, tmp_path, keep_text):
    path = tmp_path / 'weights.pt'
    torch.save(mini_state, path)
    clip = dict(model_name=mini_json, pretrained=path, cache_dir=tmp_path, keep_text=keep_text)
    encoder = ClipSource(**clip).text_encoder()
    before = encoder.encode(['cat'], ['{}'], CPU)
    (stored,) = tmp_path.rglob('*.safetensors')
    content = stored.read_bytes()
    torch.save({**mini_state, 'positional_embedding': mini_state['positional_embedding'] * 2}, path)
    assert torch.allclose(encoder.encode(['cat'], ['{}'], CPU), before, atol=1e-4) == keep_text
    encoder.encode(['owl'], ['{}'], CPU)
    assert encoder.identity() is None and stored.read_bytes() == content
    assert (encoder.network is not None) is keep_text
    if keep_text:
        path.unlink()  # the tower is in memory
        encoder.encode(['newt'], ['{}'], CPU)


def test_weights_edited_after_a_tower_was_read_have_no_identity(mini_json, mini_weights, tmp_path):
    (tmp_path / 'weights.pt').write_bytes(mini_weights.read_bytes())
    source = ClipSource(model_name=mini_json, pretrained=tmp_path / 'weights.pt', cache_dir=tmp_path)
    source.image_tower()
    os.utime(tmp_path / 'weights.pt', ns=(0, 0))
    assert source.text_encoder().identity() is None


def test_an_edited_tokenizer_is_another_key(mini_clip, tmp_path):
    def identity(content):
        time.sleep(0.05)  # where times of change are coarse, an edit in the same instant shows none
        (tmp_path / 'tokenizer.json').write_text(content)
        source = ClipSource(**mini_clip)
        source.architecture.model['text_cfg']['hf_tokenizer_name'] = str(tmp_path)
        return source.text_encoder().identity()['tokenizer']

    assert identity('a') == identity('a') != identity('b')


def test_a_hash_is_remembered_until_the_file_changes(tmp_path, monkeypatch):
    file, memory = tmp_path / 'weights', tmp_path / 'cache' / 'hashes.json'
    file.write_bytes(b'abc')
    expected = hashlib.sha256(b'abc').hexdigest()
    assert file_hash(file, memory) == expected
    stat = file.stat()
    opened = []
    monkeypatch.setattr('builtins.open', lambda *a, real=open, **k: opened.append(str(a[0])) or real(*a, **k))
    assert file_hash(file, memory) == expected
    assert str(file) not in opened
    time.sleep(0.05)  # as above
    file.write_bytes(b'abd')
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # the same size and time of change
    assert file_hash(file, memory) == hashlib.sha256(b'abd').hexdigest()
    memory.write_text('{"damaged')
    assert file_hash(file, memory) == hashlib.sha256(b'abd').hexdigest()
    assert str(file) in json.loads(memory.read_text())
