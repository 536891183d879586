import numpy as np
import pytest
from PIL import Image

from mmseg_sclip.apis import inputs, list_pictures


@pytest.fixture(scope='module')
def rgb():
    return np.random.RandomState(0).randint(0, 256, (13, 21, 3)).astype(np.uint8)


@pytest.fixture
def saved(tmp_path, rgb):
    """`saved(name)` writes a picture and returns its path."""

    def save(name):
        Image.fromarray(rgb).save(tmp_path / name)
        return tmp_path / name

    return save


def test_what_may_be_named(saved, rgb, tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(inputs, 'print_log', lambda message, **_: said.append(message))
    for name in ('b.png', 'a.JPG', 'c[1].png'):
        saved(name)
    (tmp_path / 'notes.txt').touch()
    (tmp_path / '.hidden.png').touch()
    (tmp_path / 'deep').mkdir()
    saved('deep/d.png')
    names = [str(tmp_path / name) for name in ('a.JPG', 'b.png', 'c[1].png')]
    assert list_pictures(str(tmp_path)) == list_pictures(tmp_path) == names
    assert len(said) == 2 and 'holds 3 pictures and 1 other file (notes.txt), left out' in said[0]
    assert list_pictures(str(tmp_path / '*.png')) == names[1:]
    assert list_pictures(str(tmp_path / '**' / '*.png')) == [*names[1:], str(tmp_path / 'deep' / 'd.png')]
    assert list_pictures(names[2]) == [names[2]]  # a file, though it looks like a glob
    picture = Image.fromarray(rgb)
    mixed = list_pictures([names[0], rgb, tmp_path / 'deep', picture])
    assert mixed[0] == names[0] and mixed[1] is rgb and mixed[2].endswith('d.png') and mixed[3] is picture
    monkeypatch.chdir(tmp_path)
    assert list_pictures('deep/*.p?g') == ['deep/d.png']


def test_a_folder_with_brackets_is_taken_by_its_name(saved, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ('dir[1]/in [x]', 'dir1', 'a*'):
        (tmp_path / folder).mkdir(parents=True)
    for name in ('dir[1]/a.png', 'dir[1]/in [x]/b [2].png', 'dir1/c.png', 'dir1/d [2].png', 'a*/e.png'):
        saved(name)
    found = {
        'dir[1]/*.png': ['dir[1]/a.png'],
        f'{tmp_path}/dir[1]/[a]*': [f'{tmp_path}/dir[1]/a.png'],
        'dir[1]/**/*.png': ['dir[1]/a.png', 'dir[1]/in [x]/b [2].png'],
        '*/in [x]/*.png': ['dir[1]/in [x]/b [2].png'],
        'dir1/d [2]*': ['dir1/d [2].png'],
        'a*/*.png': ['a*/e.png'],
        'dir[0-9]/*.png': ['dir1/c.png', 'dir1/d [2].png'],
    }
    assert {given: list_pictures(given) for given in found} == found


@pytest.mark.parametrize(
    'given, error, message',
    [
        ('none.jpg', FileNotFoundError, 'none.jpg. Correct'),
        ('*.jpg', FileNotFoundError, r'\*.jpg.*no picture and|\*.jpg.*holds no picture'),
        ('.', FileNotFoundError, 'holds no picture and 1 other file'),
        ([], ValueError, 'empty'),
        (3, TypeError, 'int'),
        ('x' * 300, FileNotFoundError, 'xxx'),
    ],
)
def test_what_may_not(tmp_path, monkeypatch, given, error, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'notes.txt').touch()
    with pytest.raises(error, match=message):
        list_pictures(given)
