"""Output folders: names of their own, and never where inputs lie."""

import errno
import os
from pathlib import Path

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from mmseg_sclip import outputs
from mmseg_sclip.errors import OutputError
from mmseg_sclip.files import MARK
from mmseg_sclip.outputs import OutputFolder, check_outputs, refuse_inputs


def write_png(path, software=MARK):
    info = PngInfo()
    info.add_text('Software', software)
    Image.new('L', (9, 9)).save(path, pnginfo=info)


@pytest.fixture
def photos(tmp_path):
    """A folder of the user's with two files."""
    (tmp_path / 'photos').mkdir()
    for name in ('a.png', 'b.png'):
        write_png(tmp_path / 'photos' / name, software='GIMP')
    return tmp_path / 'photos'


def names(folder):
    return sorted(path.name for path in Path(folder).iterdir())


def test_equal_stems_get_names_of_their_own_and_keep_them(tmp_path):
    inputs = ['x/scene.jpg', 'y/scene.jpg', 'y/SCENE.JPG', 'z/scene.png', 'z/other.png']
    expected = ['scene', 'scene-2', 'SCENE-3', 'scene-4', 'other']
    for _ in range(2):  # a second test in one process, and a second process: the first one's files are replaced
        folder = OutputFolder(tmp_path / 'out')
        for _ in range(2):
            assert [folder.name(path, '.png') for path in inputs] == expected
            for name in expected:
                with folder.write(f'{name}.png') as place:
                    write_png(place)
        assert len(names(tmp_path / 'out')) == len(inputs)


def test_all_suffixes_of_a_name_must_be_free(tmp_path):
    write_png(tmp_path / 'a_overlay.png', software='GIMP')
    assert OutputFolder(tmp_path).name('x/a.jpg', '.png', '_overlay.png') == 'a-2'
    (tmp_path / 'b.png').symlink_to('nowhere')
    assert OutputFolder(tmp_path).name('elsewhere/b.jpg', '.png') == 'b-2'


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


def test_two_outputs_in_one_folder_are_refused(tmp_path, photos):
    check_outputs([OutputFolder(tmp_path / 'one', '--out'), OutputFolder(tmp_path / 'two', '--show-dir')], [photos])
    (tmp_path / 'link').symlink_to(tmp_path / 'one')
    for second in ('one', 'link', 'two/../one'):
        with pytest.raises(OutputError, match='--out and --show-dir are the same folder'):
            check_outputs([OutputFolder(tmp_path / 'one', '--out'), OutputFolder(tmp_path / second, '--show-dir')], [])
    with pytest.raises(OutputError, match='--show-dir .* inputs of this run'):
        check_outputs([OutputFolder(photos, '--show-dir')], [photos / 'a.png'])
    assert names(tmp_path / 'one') == [] and names(photos) == ['a.png', 'b.png']


def test_a_folder_that_cannot_be_written_to_is_found_before_the_run(tmp_path, monkeypatch):
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
