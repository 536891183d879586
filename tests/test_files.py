"""Writing: whole or not at all, never over what the user gave."""

import errno
import os
from pathlib import Path

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from mmseg_sclip import files
from mmseg_sclip.errors import BadFileError, OutputError
from mmseg_sclip.files import MARK, file_hash, is_ours, write_atomically


def write_png(path, mark=True):
    info = PngInfo()
    info.add_text('Software', MARK if mark else 'GIMP')
    Image.new('L', (300, 300)).save(path, pnginfo=info)


def result(path):
    """What a run writes."""
    with write_atomically(path, '--out') as place:
        write_png(place)


def names(folder):
    return sorted(path.name for path in Path(folder).iterdir())


def test_a_file_appears_when_it_is_whole(tmp_path):
    path = tmp_path / 'new' / 'folder' / 'a.png'
    with write_atomically(path) as place:
        write_png(place)
        assert place.suffix == '.png' and not path.exists()
    assert is_ours(path) and names(path.parent) == ['a.png']
    os.link(path, tmp_path / 'truth.png')
    with write_atomically(path) as place:  # one of ours is replaced; what is linked to it keeps its content
        place.write_text(MARK)
    assert names(path.parent) == ['a.png'] and path.read_text() == MARK
    assert (tmp_path / 'truth.png').read_bytes()[:4] == b'\x89PNG'


FULL = OSError(errno.ENOSPC, 'No space left on device')


@pytest.mark.parametrize('error', [KeyboardInterrupt(), ValueError('x'), BadFileError('b.jpg is cut'), FULL])
def test_an_unfinished_file_leaves_everything_as_it_was(tmp_path, error):
    path = tmp_path / 'a.png'
    result(path)
    before = path.read_bytes()

    def write():
        with write_atomically(path) as place:
            place.write_text('half')
            raise error

    with pytest.raises(OutputError if error is FULL else type(error)):
        write()
    assert names(tmp_path) == ['a.png'] and path.read_bytes() == before


@pytest.mark.parametrize('code, step', [(errno.ENOSPC, 'replace'), (errno.EACCES, 'mkdir')])
def test_an_error_says_which_output_and_what_to_do(tmp_path, monkeypatch, code, step):
    def refuse(*args, **kwargs):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(Path if step == 'mkdir' else os, step, refuse)
    with pytest.raises(OutputError, match=rf'Cannot write .*a\.png \(--out\): {os.strerror(code)}. Free some space'):
        result(tmp_path / 'a.png')
    assert names(tmp_path) == []


TAKEN = {
    'a file of the user': lambda path: write_png(path, mark=False),
    'an empty file': Path.touch,
    'a folder': Path.mkdir,
    'a link': lambda path: path.symlink_to('.'),
    'a link to nowhere': lambda path: path.symlink_to('nowhere'),
}


@pytest.mark.parametrize('what', TAKEN)
def test_what_is_not_ours_is_not_replaced(tmp_path, what):
    path = tmp_path / 'a.png'
    TAKEN[what](path)
    before = (names(tmp_path), path.lstat().st_ino)
    with pytest.raises(OutputError, match='a.png is there already and was not written by mmseg_sclip.*--out'):
        result(path)
    assert (names(tmp_path), path.lstat().st_ino) == before


def test_a_file_that_comes_while_ours_is_made_is_not_replaced(tmp_path):
    def write():
        with write_atomically(tmp_path / 'a.txt') as place:
            place.write_text(MARK)
            (tmp_path / 'a.txt').write_text('another program')

    with pytest.raises(OutputError):
        write()
    assert (tmp_path / 'a.txt').read_text() == 'another program' and names(tmp_path) == ['a.txt']


def test_a_hash_is_remembered_until_the_file_changes(tmp_path, monkeypatch):
    path, memory = tmp_path / 'weights.pt', tmp_path / 'hashes.json'
    path.write_bytes(b'one')
    first = file_hash(path, memory)
    assert first == '7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed'
    with monkeypatch.context() as patch:
        patch.setattr(files.hashlib, 'sha256', None)  # not computed again
        assert file_hash(path, memory) == first
    path.write_bytes(b'two!')
    assert file_hash(path, memory) != first
    memory.write_text('{damaged')
    assert file_hash(path, memory) == file_hash(path)
    monkeypatch.setattr(files, 'write_atomically', lambda *_, **__: (_ for _ in ()).throw(OSError('full')))
    memory.unlink()
    assert file_hash(path, memory) == file_hash(path)  # where it cannot be remembered


def test_a_text_that_speaks_of_the_mark_does_not_carry_it(tmp_path):
    path = tmp_path / 'notes.txt'
    path.write_text('This file was written by mmseg_sclip, says the documentation.')
    assert not is_ours(path)
    assert not is_ours(files.__file__)
    path.write_text(f'{{"software": "{files.MARK}"}}')
    assert is_ours(path)
