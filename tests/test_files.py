"""Writing: whole or not at all, never over what the user gave, and never where inputs lie."""

import errno
import os
from pathlib import Path

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from mmseg_sclip import files, outputs
from mmseg_sclip.errors import BadFileError, OutputError
from mmseg_sclip.files import MARK, file_hash, is_ours, write_atomically
from mmseg_sclip.outputs import OutputFolder, check_outputs, refuse_inputs


def write_png(path, software=MARK):
    info = PngInfo()
    info.add_text('Software', software)
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


def test_a_file_that_comes_while_ours_is_made_is_not_replaced(tmp_path):
    def write():
        with write_atomically(tmp_path / 'a.txt') as place:
            place.write_text(MARK)
            (tmp_path / 'a.txt').write_text('another program')

    with pytest.raises(OutputError):
        write()
    assert (tmp_path / 'a.txt').read_text() == 'another program' and names(tmp_path) == ['a.txt']


@pytest.mark.parametrize('code, step', [(errno.ENOSPC, (os, 'replace')), (errno.EACCES, (Path, 'mkdir'))])
def test_an_error_says_which_output_and_what_to_do(tmp_path, monkeypatch, code, step):
    def refuse(*args, **kwargs):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(*step, refuse)
    with pytest.raises(OutputError, match=rf'Cannot write .*a\.png \(--out\): {os.strerror(code)}. Free some space'):
        result(tmp_path / 'a.png')
    assert names(tmp_path) == []


TAKEN = {
    'a file of the user': lambda path: write_png(path, 'GIMP'),
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
    monkeypatch.setattr(files, 'write_atomically', lambda *_, **__: (_ for _ in ()).throw(OSError('full')))
    assert file_hash(path, memory) == file_hash(path)  # neither read nor remembered


def test_a_text_that_speaks_of_the_mark_does_not_carry_it(tmp_path):
    path = tmp_path / 'notes.txt'
    path.write_text('This file was written by mmseg_sclip, says the documentation.')
    assert not is_ours(path) and not is_ours(files.__file__)
    path.write_text(f'{{"software": "{files.MARK}"}}')
    assert is_ours(path)


@pytest.fixture
def photos(tmp_path):
    """A folder of the user's with two files."""
    (tmp_path / 'photos').mkdir()
    for name in ('a.png', 'b.png'):
        write_png(tmp_path / 'photos' / name, 'GIMP')
    return tmp_path / 'photos'


def test_equal_stems_get_names_of_their_own(tmp_path):
    inputs = ['x/scene.jpg', 'y/scene.jpg', 'y/SCENE.JPG', 'z/scene.png', 'z/other.png']
    folder = OutputFolder(tmp_path)
    for _ in range(2):
        names = [folder.name(path, '.png') for path in inputs]
        assert names == ['scene', 'scene-2', 'SCENE-3', 'scene-4', 'other']
    write_png(tmp_path / 'a_overlay.png', 'GIMP')  # all suffixes of a name must be free
    assert folder.name('x/a.jpg', '.png', '_overlay.png') == 'a-2'
    (tmp_path / 'b.png').symlink_to('nowhere')
    assert folder.name('elsewhere/b.jpg', '.png') == 'b-2'


def linked(photos):
    photos.with_name('link').symlink_to(photos)
    return photos.with_name('link')


WAYS = {
    'itself': lambda photos: photos,
    'relative': lambda photos: Path(os.path.relpath(photos)),
    'with dots': lambda photos: photos / '..' / 'photos' / '.',
    'a link to it': linked,
    'through a link': lambda photos: linked(photos) / '..' / 'photos',
}


@pytest.mark.parametrize('way', WAYS)
def test_a_folder_of_inputs_is_refused_however_it_is_written(photos, tmp_path, monkeypatch, way):
    monkeypatch.chdir(tmp_path)
    folder = WAYS[way](photos)
    with pytest.raises(OutputError, match=r'--out .* is where the inputs of this run are \(.*a\.png\).*another folder'):
        check_outputs([OutputFolder(folder, '--out')], [photos / 'a.png'])
    with pytest.raises(OutputError):  # the input may be the one that is linked
        refuse_inputs(photos, [folder / 'a.png'])


def test_folders_with_linked_inputs_and_below_inputs(photos, tmp_path):
    (tmp_path / 'dataset').mkdir()
    (tmp_path / 'dataset' / 'a.png').symlink_to(photos / 'a.png')
    for folder in (photos, tmp_path / 'dataset'):
        with pytest.raises(OutputError):
            refuse_inputs(folder, [tmp_path / 'dataset' / 'a.png'])
    for folder in (photos, photos / 'out', linked(photos) / 'deep' / 'out'):
        with pytest.raises(OutputError):
            refuse_inputs(folder, [photos])
    for folder in (tmp_path, tmp_path / 'out', tmp_path / 'photos-2'):
        refuse_inputs(folder, [photos])
    refuse_inputs(photos / 'out', [photos / 'a.png'])  # beside a file is not below a folder
    refuse_inputs(tmp_path, ['s3://bucket/a.png', tmp_path / 'missing.png', 'openai'])  # not files here


def test_folders_that_cannot_be_used_are_found_before_the_run(tmp_path, monkeypatch):
    (tmp_path / 'link').symlink_to(tmp_path)
    with pytest.raises(OutputError, match='--out and --show-dir are the same folder'):
        check_outputs([OutputFolder(tmp_path / 'link', '--out'), OutputFolder(tmp_path, '--show-dir')], [])
    (tmp_path / 'file').write_text('kept')
    for name in ('file', 'file/inside'):
        with pytest.raises(OutputError, match='--out .* must be a folder, but .*file is a file'):
            check_outputs([OutputFolder(tmp_path / name, '--out')], [])
    assert (tmp_path / 'file').read_text() == 'kept'

    def refuse(**kwargs):
        raise PermissionError(errno.EACCES, 'Permission denied')

    monkeypatch.setattr(outputs, 'NamedTemporaryFile', refuse)
    with pytest.raises(OutputError, match=r'Cannot write .*out \(--show-dir\): Permission denied'):
        check_outputs([OutputFolder(tmp_path / 'out', '--show-dir')], [])
