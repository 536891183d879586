"""Text encoders and the disk cache of their vectors: what is encoded, what is read, and what is not believed."""

import hashlib
import os
import threading
import time

import pytest
import torch
from helpers import write_clip
from safetensors import SafetensorError
from safetensors.torch import save_file

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


def flip(path):
    content = bytearray(path.read_bytes())
    content[-2] ^= 64
    path.write_bytes(content)


def save_for_another(path):
    content = torch.zeros(1, 2)
    digest = hashlib.sha256(content.numpy().tobytes()).hexdigest()
    save_file(dict(bank=content), path, metadata=dict(key='b', phrases='["cat"]', sha256=digest))


@pytest.mark.parametrize(
    'harm',
    [
        lambda path: path.write_bytes(path.read_bytes()[:-3]),
        flip,
        lambda path: torch.save(dict(bank=torch.zeros(1, 2)), path),
        save_for_another,
        lambda path: save_file(dict(weight=torch.zeros(3)), path),
    ],
)
def test_damaged_and_foreign_files_are_reported_and_replaced(tmp_path, harm, said):
    encode, cache = Encoder(), cache_in(tmp_path)
    cache.complete(['cat'], encode)
    harm(cache.path)
    for _ in range(2):
        assert torch.equal(cache.complete(['cat'], encode), vectors('cat'))
    assert len(said) == 1 and str(cache.path) in said[0] and 'encoded again' in said[0]
    assert encode.asked == [['cat'], ['cat']]


def test_where_nothing_can_be_written_it_is_done_without(tmp_path, monkeypatch, said):
    (tmp_path / 'file').write_text('')
    assert torch.equal(cache_in(tmp_path / 'file' / 'banks').complete(['cat'], Encoder()), vectors('cat'))
    assert len(said) == 1 and 'MMSEG_SCLIP_CACHE' in said[0]

    def full(*args, **kwargs):
        raise SafetensorError('No space left on device')

    monkeypatch.setattr('mmseg_sclip.models.text.bank_cache.save_file', full)
    assert torch.equal(cache_in(tmp_path).complete(['cat'], Encoder()), vectors('cat'))
    assert len(said) == 2 and 'No space left' in said[1]


def test_new_phrases_alone_are_encoded_and_an_interruption_keeps_finished_portions(tmp_path, monkeypatch, said):
    monkeypatch.setattr('mmseg_sclip.models.text.bank_cache._PORTION', 2)
    encode = Encoder()
    for error in (KeyboardInterrupt, OSError):

        def stop_at_third(phrases, error=error):
            if encode.asked:
                raise error
            return encode(phrases)

        with pytest.raises(error):
            cache_in(tmp_path).complete(['a', 'b', 'c', 'd'], stop_at_third)
    for phrases in (['d', 'a', 'c', 'b'], ['e', 'd'], ['c']):
        assert torch.equal(cache_in(tmp_path).complete(phrases, encode), vectors(*phrases))
    assert encode.asked == [['a', 'b'], ['d', 'c'], ['e']] and not said
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
        assert not torch.is_inference_mode_enabled() and not torch.is_autocast_enabled('cpu')
        return 3 * vectors(*prompts)

    def identity(self):
        return dict(weights='a')


def test_an_encoder_averages_unit_vectors_and_its_network_is_there_while_it_encodes(tmp_path):
    encoder, templates = Letters(cache_dir=str(tmp_path)), ('a {}.', 'two of {}{')
    with torch.inference_mode(), torch.autocast('cpu', torch.bfloat16):
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


def test_vectors_are_kept_for_all_that_they_depend_on_and_for_nothing_else(mini_clip, mini_state, tmp_path):
    heads = write_clip(tmp_path, name='heads', text=dict(heads=2))  # the same weights fit
    other = write_clip(tmp_path, {**mini_state, 'ln_final.bias': mini_state['ln_final.bias'] + 1}, 'other')
    text_only = [dict(activation=dict(text='gelu')), dict(norm_eps=dict(text=1e-3)), dict(precision='bf16')]
    changes = [{}, *text_only, dict(model_name=heads['model_name']), dict(pretrained=other['pretrained'])]
    identities = [ClipSource(**{**mini_clip, **change}).text_encoder().identity() for change in changes]
    assert all(a != b for i, a in enumerate(identities) for b in identities[:i])
    for change in (dict(activation=dict(image='gelu')), dict(norm_eps=dict(image=1e-3)), dict(keep_text=True)):
        assert ClipSource(**{**mini_clip, **change}).text_encoder().identity() == identities[0]
    tokenizers = []
    for content in 'aab':
        time.sleep(0.05)  # where times of change are coarse, an edit in the same instant shows none
        (tmp_path / 'tokenizer.json').write_text(content)
        source = ClipSource(**mini_clip)
        source.architecture.model['text_cfg']['hf_tokenizer_name'] = str(tmp_path)
        tokenizers.append(source.text_encoder().identity()['tokenizer'])
    assert tokenizers[0] == tokenizers[1] != tokenizers[2]
    assert ClipSource(model_name=mini_clip['model_name']).text_encoder().identity() is None  # of random weights


@pytest.mark.parametrize('keep_text', [False, True])
def test_vectors_are_not_stored_for_weights_edited_since(mini_json, mini_state, tmp_path, keep_text):
    path = tmp_path / 'weights.pt'
    torch.save(mini_state, path)
    source = ClipSource(model_name=mini_json, pretrained=path, cache_dir=tmp_path, keep_text=keep_text)
    encoder = source.text_encoder()
    before = encoder.encode(['cat'], ['{}'], CPU)
    (stored,) = tmp_path.rglob('*.safetensors')
    content = stored.read_bytes()
    torch.save({**mini_state, 'positional_embedding': mini_state['positional_embedding'] * 2}, path)
    os.utime(path, ns=(0, 0))
    assert torch.allclose(encoder.encode(['cat'], ['{}'], CPU), before, atol=1e-4) == keep_text
    assert encoder.identity() is None and stored.read_bytes() == content
    assert (encoder.network is not None) is keep_text
