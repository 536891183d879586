"""Files of datasets: what is said of them before anything large is loaded, split files."""

import logging
import shutil

import pytest
from mmengine.registry import init_default_scope
from PIL import Image

from mmseg_sclip import notes
from mmseg_sclip.datasets.building import build_dataset
from mmseg_sclip.datasets.check_files import check_files, name_files_in_errors
from mmseg_sclip.datasets.split_file import with_class_names
from mmseg_sclip.errors import BadFileError, ConfigError, MissingFileError

STEPS = [dict(type=kind) for kind in ('LoadImageFromFile', 'LoadAnnotations', 'PackSegInputs')]


@pytest.fixture(autouse=True)
def scope():
    init_default_scope('mmseg')


@pytest.fixture
def said(monkeypatch):
    """The messages that were logged."""
    messages = []
    monkeypatch.setattr(notes, 'print_log', lambda message, logger, level: messages.append((level, message)))
    return messages


@pytest.fixture
def folder(tmp_path):
    """Seven images with four suffixes, and label maps."""
    for name in ('1.jpg', '2.jpg', '3.jpg', '4.JPG', '5.jpeg', '6.jpeg', 'deep/7.png'):
        for place in (tmp_path / 'images' / name, (tmp_path / 'labels' / name).with_suffix('.png')):
            place.parent.mkdir(parents=True, exist_ok=True)
            Image.new('L', (4, 2)).save(place, 'PNG')
    (tmp_path / 'images' / 'notes.txt').touch()
    return tmp_path


def dataset(folder, type='BaseSegDataset', labels='labels', **settings):
    prefix = dict(img_path='images', seg_map_path=labels)
    return dict(type=type, metainfo=dict(classes=('a', 'b')), data_root=str(folder), data_prefix=prefix, **settings)


def test_images_of_another_suffix_are_counted(folder, said):
    check_files(dataset(folder))
    (level, text), _ = said
    assert level == logging.WARNING
    assert f'{folder / "images"} holds 7 images, but BaseSegDataset takes only the 3 whose names end with .jpg' in text
    assert 'Left out are 4: 2 with .jpeg, 1 with .JPG, 1 with .png. They are 4.JPG, 5.jpeg, 6.jpeg, deep/7.png.' in text
    assert "type='ImageFolderDataset'" in text


def test_whatever_else_is_left_out_is_named(folder, said):
    (folder / 'images' / 'raw.CR9').touch()
    (folder / 'images' / '1.jpg').unlink()
    check_files(dataset(folder, type='ImageFolderDataset'))
    assert [text.partition('holds ')[2] for _, text in said] == [
        '2 files that no reader of images knows, left out: notes.txt, raw.CR9.',
        '1 label map without an image, left out: 1.png.',
    ]


@pytest.mark.parametrize('settings', [dict(type='ImageFolderDataset'), dict(ann_file='split.txt')])
def test_nothing_is_said_where_nothing_is_left_out(folder, said, settings):
    (folder / 'split.txt').write_text('1\n')
    (folder / 'images' / 'notes.txt').unlink()
    check_files(dataset(folder, **settings))
    assert said == []


def test_label_maps_among_the_images_are_not_images(folder, said):
    (folder / 'labels').rename(folder / 'images' / 'labels')
    check_files(dataset(folder, labels='images/labels'))
    assert 'Left out are 4: 2 with .jpeg, 1 with .JPG, 1 with .png.' in said[0][1]
    for label in (folder / 'images' / 'labels').glob('[1-6].png'):
        label.rename(folder / 'images' / label.name)
    shutil.rmtree(folder / 'images' / 'labels')
    said.clear()
    check_files(dataset(folder, labels='images'))
    assert 'Left out are 3: 2 with .jpeg, 1 with .JPG.' in said[0][1]


@pytest.mark.parametrize(
    'settings, gone, words',
    [
        ({}, 'images', 'images does not exist.*must hold images, labels.*--data-root'),
        ({}, 'labels', 'labels does not exist'),
        (dict(ann_file='val.txt'), None, 'val.txt does not exist'),
        (dict(ann_file='empty.txt'), None, 'empty.txt names no image'),
        (dict(img_suffix='.bmp'), None, 'images holds no image whose name ends with .bmp'),
        (dict(data_root='/nowhere'), None, '/nowhere does not exist'),
        (dict(data_prefix=dict(img_path='bare', seg_map_path='labels')), None, 'bare is empty'),
    ],
)
def test_missing_files_are_named(folder, settings, gone, words):
    (folder / 'empty.txt').write_text(' \n')
    (folder / 'bare').mkdir()
    if gone:
        (folder / gone).rename(folder / 'elsewhere')
    with pytest.raises(MissingFileError, match=words):
        check_files({**dataset(folder), **settings})
    with pytest.raises(MissingFileError, match='train_dataloader.dataset.data_root'):
        check_files(dataset(folder / 'nowhere'), 'train_dataloader')


def test_files_are_checked_inside_of_wrappers(folder):
    wrapped = dataset(folder, pipeline=STEPS)
    Image.new('L', (2, 4)).save(folder / 'labels' / '2.png')
    for _ in range(2):
        wrapped = dict(type='RepeatDataset', times=2, dataset=wrapped)
    built = build_dataset(wrapped)
    name_files_in_errors(built)
    assert built[0]['inputs'].shape == (3, 2, 4)
    with pytest.raises(BadFileError, match='2.png is 4 x 2 pixels .*, but its image is 2 x 4'):
        built[1]
    shutil.rmtree(folder / 'images')
    with pytest.raises(MissingFileError, match='images does not exist'):
        check_files(wrapped)
    at_an_address = dataset(folder, 'ImageFolderDataset', pipeline=STEPS)
    at_an_address['data_prefix'] = dict(img_path='s3://bucket/images', seg_map_path='s3://bucket/labels')
    with pytest.raises(ConfigError, match='ann_file|petrel_client'):
        build_dataset(at_an_address)


@pytest.fixture
def names(tmp_path):
    """`names(content, kind)` is what a dataset of a kind reads from a split file: names of images, and what is said."""
    for place in [f'{folder}.{name}' for name in ('a', 'b', 'two words', 'c.d') for folder in ('images', 'labels')]:
        path = tmp_path / place.replace('.', '/', 1)
        path.parent.mkdir(exist_ok=True)
        Image.new('L', (4, 2)).save(f'{path}.jpg' if place.startswith('images') else f'{path}.png')

    def read(content, kind):
        (tmp_path / 'val.txt').write_bytes(content)
        with notes.collecting() as said:
            built = build_dataset(dataset(tmp_path, kind, ann_file='val.txt', pipeline=[]))
        paths = [built.get_data_info(index)['img_path'] for index in range(len(built))]
        assert built.ann_file == str(tmp_path / 'val.txt')
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


def test_a_note_is_said_once(said):
    for text in ('this test says it', 'this test says it', 'another'):
        notes.say_once(notes.Note('kind', text))
    assert said == [(logging.WARNING, 'this test says it'), (logging.WARNING, 'another')]
