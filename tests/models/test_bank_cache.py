"""The disk cache of encoded phrases: what is encoded, what is read, and what is not believed."""

import json
import os
import subprocess
import sys

import pytest
import torch
from mmseg.registry import MODELS
from safetensors.torch import save_file

from mmseg_sclip.models.clip import ClipSource
from mmseg_sclip.models.text import TextBankCache
from mmseg_sclip.utils.cache_files import file_hash


def vector(phrase):
    return torch.tensor([float(len(phrase)), float(ord(phrase[0]))])


class Encoder:
    def __init__(self):
        self.asked = []

    def __call__(self, phrases):
        self.asked.append(list(phrases))
        return torch.stack([vector(phrase) for phrase in phrases])


@pytest.fixture
def said(monkeypatch):
    lines = []
    monkeypatch.setattr('mmseg_sclip.models.text.bank_cache.print_log', lambda text, **_: lines.append(text))
    return lines


def test_only_new_phrases_are_encoded_and_order_is_kept(tmp_path):
    encode = Encoder()
    cache = TextBankCache(tmp_path, dict(weights='a'))
    first = cache.complete(['cat', 'dog'], encode)
    second = TextBankCache(tmp_path, dict(weights='a')).complete(['owl', 'dog', 'cat'], encode)
    third = TextBankCache(tmp_path, dict(weights='a')).complete(['dog'], encode)
    assert encode.asked == [['cat', 'dog'], ['owl']]
    assert torch.equal(first, torch.stack([vector('cat'), vector('dog')]))
    assert torch.equal(second, torch.stack([vector('owl'), vector('dog'), vector('cat')]))
    assert torch.equal(third, vector('dog')[None])


def test_other_weights_templates_or_precisions_have_files_of_their_own(tmp_path):
    encode = Encoder()
    for key in (dict(weights='a'), dict(weights='b'), dict(weights='a', templates=['{}']), dict(weights='a', p='bf16')):
        TextBankCache(tmp_path, key).complete(['cat'], encode)
    assert len(encode.asked) == 4
    assert len(list(tmp_path.glob('*.safetensors'))) == 4


def damage_truncate(path):
    path.write_bytes(path.read_bytes()[:-3])


def damage_one_byte(path):
    content = bytearray(path.read_bytes())
    content[-2] ^= 64
    path.write_bytes(content)


def foreign_text(path):
    path.write_text('not a bank')


def foreign_bank(path):
    save_file(dict(bank=torch.zeros(1, 2)), path, metadata=dict(key='another', phrases='["cat"]'))


def foreign_tensors(path):
    save_file(dict(weight=torch.zeros(3)), path)


@pytest.mark.parametrize('harm', [damage_truncate, damage_one_byte, foreign_text, foreign_bank, foreign_tensors])
def test_damaged_and_foreign_files_are_reported_and_replaced(tmp_path, harm, said):
    encode = Encoder()
    cache = TextBankCache(tmp_path, dict(weights='a'))
    cache.complete(['cat'], encode)
    harm(cache.path)
    assert torch.equal(cache.complete(['cat'], encode), vector('cat')[None])
    assert len(said) == 1 and str(cache.path) in said[0] and 'encoded again' in said[0]
    assert torch.equal(cache.complete(['cat'], encode), vector('cat')[None])
    assert encode.asked == [['cat'], ['cat']]


def test_a_folder_that_cannot_be_written_is_done_without(tmp_path, said):
    (tmp_path / 'file').write_text('')
    cache = TextBankCache(tmp_path / 'file' / 'banks', dict(weights='a'))
    assert torch.equal(cache.complete(['cat'], Encoder()), vector('cat')[None])
    assert len(said) == 1 and 'MMSEG_SCLIP_CACHE' in said[0]


def test_an_interruption_keeps_finished_portions(tmp_path, monkeypatch):
    monkeypatch.setattr('mmseg_sclip.models.text.bank_cache._PORTION', 2)
    encode = Encoder()

    def stop_at_third(phrases):
        if len(encode.asked) == 1:
            raise KeyboardInterrupt
        return encode(phrases)

    cache = TextBankCache(tmp_path, dict(weights='a'))
    with pytest.raises(KeyboardInterrupt):
        cache.complete(['a', 'b', 'c', 'd'], stop_at_third)
    cache.complete(['a', 'b', 'c', 'd'], encode)
    assert encode.asked == [['a', 'b'], ['c', 'd']]
    assert [path.suffix for path in tmp_path.iterdir() if path.suffix != '.lock'] == ['.safetensors']


FILL = """
import json, sys, time, torch
from pathlib import Path
import mmseg_sclip
from mmseg_sclip.models.text import TextBankCache
folder, log, phrases = Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
def encode(missing):
    with open(log, 'a') as file:
        file.write(''.join(f'{phrase}\\n' for phrase in missing))
    time.sleep(2)
    return torch.tensor([[float(len(phrase)), float(ord(phrase[0]))] for phrase in missing])
print(json.dumps(TextBankCache(folder, dict(weights='a')).complete(phrases, encode).tolist()))
"""


def test_processes_that_start_at_once_encode_each_phrase_once(tmp_path):
    log = tmp_path / 'log'
    words = [['cat', 'dog'], ['dog', 'owl'], ['cat', 'owl', 'emu']]
    workers = [
        subprocess.Popen(
            [sys.executable, '-c', FILL, str(tmp_path / 'banks'), str(log), json.dumps(phrases)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for phrases in words
    ]
    for worker, phrases in zip(workers, words, strict=True):
        printed = worker.communicate(timeout=120)[0]
        assert json.loads(printed.splitlines()[-1]) == [vector(phrase).tolist() for phrase in phrases]
    assert sorted(log.read_text().split()) == ['cat', 'dog', 'emu', 'owl']


def head(clip, **kwargs):
    return MODELS.build(dict(type='TextSimilarityHead', clip=clip, vocabulary=['cat', 'dog'], **kwargs))


def test_a_warm_start_gives_no_memory_to_the_text_tower(mini_clip, fresh_cache, monkeypatch):
    features = torch.randn(1, 64, 3, 3)
    expected = head(mini_clip)(features)
    assert list(fresh_cache.rglob('*.safetensors'))

    def refuse(self):
        raise AssertionError('the text tower was built')

    monkeypatch.setattr(ClipSource, 'text_tower', refuse)
    assert torch.equal(head(mini_clip)(features), expected)
    with pytest.raises(AssertionError, match='was built'):
        head(mini_clip, templates='simple')(features)


def test_edited_weights_under_the_same_name_are_noticed(mini_json, mini_state, tmp_path):
    path = tmp_path / 'weights.pt'
    clip = dict(model_name=str(mini_json), pretrained=str(path), cache_dir=str(tmp_path / 'cache'))
    features = torch.randn(1, 64, 3, 3)
    torch.save(mini_state, path)
    before = head(clip)(features)
    torch.save({**mini_state, 'positional_embedding': mini_state['positional_embedding'] * 2}, path)
    after = head(clip)(features)
    assert not torch.allclose(before, after, atol=1e-4)
    assert torch.equal(after, head(dict(clip, cache_dir=str(tmp_path / 'another')))(features))


def test_clip_precision_and_random_weights(mini_clip, mini_json, tmp_path):
    folder = tmp_path / 'text_banks'
    features = torch.randn(1, 64, 3, 3)
    head(dict(mini_clip, cache_dir=str(tmp_path)))(features)
    head(dict(mini_clip, cache_dir=str(tmp_path), precision='bf16'))(features)
    assert len(list(folder.glob('*.safetensors'))) == 2
    head(dict(model_name=str(mini_json), cache_dir=str(tmp_path)))(features)  # random: new at every start
    assert len(list(folder.glob('*.safetensors'))) == 2


def test_a_hash_is_remembered_until_the_file_changes(tmp_path, monkeypatch):
    import hashlib

    file, memory = tmp_path / 'weights', tmp_path / 'cache' / 'hashes.json'
    file.write_bytes(b'abc')
    expected = hashlib.sha256(b'abc').hexdigest()
    assert file_hash(file, memory) == expected
    stat = file.stat()
    opened = []
    monkeypatch.setattr('builtins.open', lambda *a, real=open, **k: opened.append(str(a[0])) or real(*a, **k))
    assert file_hash(file, memory) == expected
    assert str(file) not in opened
    file.write_bytes(b'abd')
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # the same size and time of change
    assert file_hash(file, memory) == hashlib.sha256(b'abd').hexdigest()
    memory.write_text('{"damaged')
    assert file_hash(file, memory) == hashlib.sha256(b'abd').hexdigest()
    assert str(file) in json.loads(memory.read_text())


def test_vectors_of_a_kept_tower_are_not_stored_for_weights_edited_since(mini_json, mini_state, tmp_path):
    path = tmp_path / 'weights.pt'
    clip = dict(model_name=str(mini_json), pretrained=str(path), cache_dir=str(tmp_path / 'cache'), keep_text=True)
    features = torch.randn(1, 64, 3, 3)
    torch.save(mini_state, path)
    kept = head(clip)
    kept(features)
    torch.save({**mini_state, 'positional_embedding': mini_state['positional_embedding'] * 2}, path)
    kept.set_vocabulary(['owl', 'emu'])
    before = kept(features)
    fresh = head(clip)
    fresh.set_vocabulary(['owl', 'emu'])
    assert not torch.allclose(fresh(features), before, atol=1e-4)
    path.unlink()  # the tower is in memory
    kept.set_vocabulary(['newt'])
    kept(features)


def test_a_full_disk_is_reported_and_costs_nothing(tmp_path, monkeypatch, said):
    from safetensors import SafetensorError

    def full(*args, **kwargs):
        raise SafetensorError('No space left on device')

    monkeypatch.setattr('mmseg_sclip.models.text.bank_cache.save_file', full)
    encode = Encoder()
    cache = TextBankCache(tmp_path, dict(weights='a'))
    assert torch.equal(cache.complete(['cat'], encode), vector('cat')[None])
    assert encode.asked == [['cat']] and len(said) == 1 and 'No space left' in said[0]


def test_an_error_of_the_encoder_is_no_error_of_the_cache(tmp_path, said):
    asked = []

    def broken(phrases):
        asked.append(phrases)
        raise OSError('no tokenizer')

    with pytest.raises(OSError, match='no tokenizer'):
        TextBankCache(tmp_path, dict(weights='a')).complete(['cat'], broken)
    assert len(asked) == 1 and not said


def test_an_edited_tokenizer_is_another_key(mini_json, mini_weights, tmp_path):
    from mmseg_sclip.models.clip.architecture import find_architecture
    from mmseg_sclip.models.clip.config import ClipConfig
    from mmseg_sclip.models.clip.identity import text_identity

    config = ClipConfig.parse(dict(model_name=str(mini_json), pretrained=str(mini_weights)))
    found = find_architecture(config)
    found.model['text_cfg']['hf_tokenizer_name'] = str(tmp_path)
    (tmp_path / 'tokenizer.json').write_text('a')
    before = text_identity(config, found, tmp_path / 'hashes.json')
    assert before == text_identity(config, found, tmp_path / 'hashes.json')
    (tmp_path / 'tokenizer.json').write_text('b')
    assert before != text_identity(config, found, tmp_path / 'hashes.json')
