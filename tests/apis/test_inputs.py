import numpy as np
import pytest
from PIL import Image

from mmseg_sclip.apis import inputs, list_pictures

RGB = np.random.RandomState(0).randint(0, 256, (13, 21, 3)).astype(np.uint8)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder, with pictures and others."""
    for name in ('b.png', 'a.JPG', 'c[1].png', 'deep/d.png', 'notes.txt', '.hidden.png'):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch() if name == 'notes.txt' else Image.fromarray(RGB).save(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_what_may_be_named(folder, monkeypatch):
    said = []
    monkeypatch.setattr(inputs, 'print_log', lambda message, **_: said.append(message))
    names = [str(folder / name) for name in ('a.JPG', 'b.png', 'c[1].png')]
    assert list_pictures(str(folder)) == list_pictures(folder) == names
    assert len(said) == 2 and 'holds 3 pictures and 1 other file (notes.txt), left out' in said[0]
    assert list_pictures(str(folder / '*.png')) == names[1:]
    assert list_pictures(str(folder / '**' / '*.png')) == [*names[1:], str(folder / 'deep' / 'd.png')]
    assert list_pictures(names[2]) == [names[2]]  # a file, though it looks like a glob
    picture = Image.fromarray(RGB)
    mixed = list_pictures([names[0], RGB, folder / 'deep', (picture,)])
    assert mixed[0] == names[0] and mixed[1] is RGB and mixed[2].endswith('d.png') and mixed[3] is picture
    assert list_pictures('deep/*.p?g') == ['deep/d.png']
    monkeypatch.setenv('HOME', str(folder))
    assert list_pictures('~/b.png') == [names[1]]


def test_a_folder_with_brackets_is_taken_by_its_name(folder):
    for name in ('dir[1]/a.png', 'dir[1]/in [x]/b [2].png', 'dir1/c.png', 'dir1/d [2].png', 'a*/e.png'):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(RGB).save(folder / name)
    found = {
        f'{folder}/dir[1]/[a]*': [f'{folder}/dir[1]/a.png'],
        'dir[1]/**/*.png': ['dir[1]/a.png', 'dir[1]/in [x]/b [2].png'],
        '*/in [x]/*.png': ['dir[1]/in [x]/b [2].png'],
        'a*/*.png': ['a*/e.png'],
        'dir[0-9]/*.png': ['dir1/c.png', 'dir1/d [2].png'],
    }
    assert {given: list_pictures(given) for given in found} == found
