import pytest

from mmseg_sclip.apis import read_words

# The 26 words, from the paper's code.
SCLIP_BACKGROUND = (
    'sky wall tree wood grass road sea river mountain sands desk bed building cloud lamp door window wardrobe ceiling '
    'shelf curtain stair floor hill rail fence'
)


def test_synonyms_and_order():
    words = read_words(['remote  control ', ['sofa', 'couch'], 'cat'], None)
    assert words.class_names == ('remote control', 'sofa', 'cat')
    assert words.classes == (('remote control',), ('sofa', 'couch'), ('cat',))
    assert words.background_index is None


def test_automatic_background_leaves_out_what_is_named():
    words = read_words(['cat'], 'auto')
    assert words.class_names == ('background', 'cat') and words.background_index == 0
    assert ' '.join(words.classes[0]) == SCLIP_BACKGROUND and len(words.classes[0]) == 26
    words = read_words(['Tree', ['couch', 'BED']], 'AUTO')
    assert ' '.join(words.classes[0]) == SCLIP_BACKGROUND.replace('tree ', '').replace('bed ', '')


def test_own_background_or_none():
    assert read_words(['cat'], ['wall ', 'sky']).classes == (('wall', 'sky'), ('cat',))
    for nothing in (None, 'none', 'NONE'):
        words = read_words(['cat'], nothing)
        assert (words.class_names, words.classes, words.background_index) == (('cat',), (('cat',),), None)


def test_doubtful_commas_are_named_wherever_words_come_in():
    with pytest.warns(UserWarning, match="'sofa, couch' has a comma"):
        read_words(['cat', 'sofa, couch'], None)
    with pytest.warns(UserWarning, match="'sky,wall' has a comma"):
        assert read_words(['cat'], ['sky,wall']).classes[0] == ('sky,wall',)


def test_vocabularies(tmp_path):
    path = tmp_path / 'words.txt'
    path.write_text('# two\nсобака, пёс\n猫\n', encoding='utf-8')
    for spec in (path, str(path)):
        assert read_words(spec, None).classes == (('собака', 'пёс'), ('猫',))
    assert read_words('cityscapes', None).class_names[:2] == ('road', 'sidewalk')
    assert len(read_words('voc20', 'auto').class_names) == 21
