"""Lists of names as editors and programs write them, read alike by all datasets."""

import logging

import pytest
from mmengine.registry import DefaultScope
from PIL import Image

from mmseg_sclip import notes
from mmseg_sclip.datasets.building import build_dataset
from mmseg_sclip.datasets.split_file import with_class_names
from mmseg_sclip.errors import BadFileError, ConfigError

NAMES = ('a', 'b', 'two words', 'c.d')


@pytest.fixture
def names(tmp_path):
    """`names(content, kind)` is what a dataset of a kind reads from a split file: names of images, and what is said."""
    for name in NAMES:
        for folder, suffix in (('images', '.jpg'), ('labels', '.png')):
            (tmp_path / folder).mkdir(exist_ok=True)
            Image.new('L', (4, 2)).save(tmp_path / folder / f'{name}{suffix}')

    def read(content, kind):
        (tmp_path / 'val.txt').write_bytes(content)
        prefix = dict(img_path='images', seg_map_path='labels')
        config = dict(type=kind, data_root=str(tmp_path), data_prefix=prefix, ann_file='val.txt', pipeline=[])
        with DefaultScope.overwrite_default_scope('mmseg'), notes.collecting() as said:
            dataset = build_dataset(dict(config, metainfo=dict(classes=('x', 'y'))))
        paths = [dataset.get_data_info(index)['img_path'] for index in range(len(dataset))]
        assert dataset.ann_file == str(tmp_path / 'val.txt')
        return [path.rpartition('/')[2].removesuffix('.jpg') for path in paths], [note.kind for note in said]

    return read


MORE, TWICE = 'split files with more than names', 'names repeated in the split file'


@pytest.mark.parametrize('kind', ['BaseSegDataset', 'ImageFolderDataset'])
@pytest.mark.parametrize(
    'content, wanted, said',
    [
        (b'a\nb\n', 'a b', []),
        (b'\xef\xbb\xbfa\r\nb\r\n', 'a b', []),
        ('a\nb\n'.encode('utf-16'), 'a b', []),
        ('\ufeffa\nb\n'.encode('utf-16-be'), 'a b', []),
        (b'a \t\n\n b\xc2\xa0\r', 'a b', []),
        (b'a  1\nb -1\n', 'a b', [MORE]),
        (b'a\t1\nb.jpg -1\n./c.d', 'a|b|c.d', [MORE]),
        (b'a.jpg\nb.JPG\n', 'a b', [MORE]),
        (b'a\nb\na\n', 'a b', [TWICE]),
        (b'two words\nc.d\n', 'two words|c.d', []),
        (b'two words 1\na', 'a|two words', [MORE]),
    ],
)
def test_what_is_read(names, kind, content, wanted, said):
    found, kinds = names(content, kind)
    assert sorted(found) == sorted(wanted.split('|' if '|' in wanted else ' ')) and kinds == said


@pytest.mark.parametrize('kind', ['BaseSegDataset', 'ImageFolderDataset'])
@pytest.mark.parametrize(
    'content, words',
    [
        ('a\nb\u200b\n'.encode(), r"Line 2 of .*val.txt is 'b\\u200b', which holds .* ZERO WIDTH SPACE"),
        ('a\nb\n'.encode('utf-16-le'), r'Line 1 .*It seems to be UTF-16 without a mark'),
        ('a\ncafé\n'.encode('latin-1'), r"not UTF-8 text: line 2 holds the bytes b'\\xe9"),
        (b'images/a.jpg labels/a.png\n', 'of 2 columns, but names are wanted'),
        (b'/data/images/a\n', "is a whole path.* such as 'a'"),
        (b'# of 2020\na\n', "the line '# of 2020'. Take it out"),
        (b'a,b c\n', "no image 'a,b c' or 'a,b'"),
    ],
)
def test_what_is_refused(names, kind, content, words):
    with pytest.raises(BadFileError, match=words):
        names(content, kind)


def test_names_of_classes_from_a_file(tmp_path):
    path = tmp_path / 'classes.txt'
    path.write_bytes('cat \r\nremote control\r\n'.encode('utf-16'))
    assert with_class_names(dict(classes=str(path), palette=[])) == dict(classes=('cat', 'remote control'), palette=[])
    path.write_text('cat\ndog\ncat\n')
    with pytest.raises(ConfigError, match="'cat' twice"):
        build_dataset(dict(type='BaseSegDataset', metainfo=dict(classes=str(path))))
    with pytest.raises(ConfigError, match=r'names the file no.txt, which does not exist'):
        with_class_names(dict(classes='no.txt'))


def test_a_note_is_said_once(monkeypatch):
    said = []
    monkeypatch.setattr(notes, 'print_log', lambda text, logger, level: said.append((level, text)))
    for text in ('this test says it', 'this test says it', 'another'):
        notes.say_once(notes.Note('kind', text))
    assert said == [(logging.WARNING, 'this test says it'), (logging.WARNING, 'another')]
