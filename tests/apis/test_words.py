import pytest

from mmseg_sclip.apis import read_words

# The 26 words, from the paper's code.
SCLIP_BACKGROUND = [
    # fmt: off
    'sky',
    'wall',
    'tree',
    'wood',
    'grass',
    'road',
    'sea',
    'river',
    'mountain',
    'sands',
    'desk',
    'bed',
    'building',
    'cloud',
    'lamp',
    'door',
    'window',
    'wardrobe',
    'ceiling',
    'shelf',
    'curtain',
    'stair',
    'floor',
    'hill',
    'rail',
    'fence',
    # fmt: on
]


def test_synonyms_and_order():
    words = read_words(['remote  control ', ['sofa', 'couch'], 'cat'], None)
    assert words.class_names == ('remote control', 'sofa', 'cat')
    assert words.classes == (('remote control',), ('sofa', 'couch'), ('cat',))
    assert words.background_index is None


def test_automatic_background_leaves_out_what_is_named():
    words = read_words(['cat'], 'auto')
    assert words.class_names == ('background', 'cat') and words.background_index == 0
    assert list(words.classes[0]) == SCLIP_BACKGROUND and len(SCLIP_BACKGROUND) == 26
    words = read_words(['Tree', ['couch', 'BED']], 'auto')
    assert list(words.classes[0]) == [word for word in SCLIP_BACKGROUND if word not in ('tree', 'bed')]


def test_own_background():
    assert read_words(['cat'], ['wall ', 'sky']).classes == (('wall', 'sky'), ('cat',))


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


@pytest.mark.parametrize('nothing', [None, 'none', 'NONE'])
def test_one_word_for_no_background(nothing):
    words = read_words(['cat'], nothing)
    assert (words.class_names, words.classes, words.background_index) == (('cat',), (('cat',),), None)


@pytest.mark.parametrize(
    'classes, background, message',
    [
        ([], None, 'Name at least one'),
        (None, None, 'Name at least one'),
        (['cat', ''], None, 'Class 1'),
        (['cat', []], None, 'Class 1'),
        (['cat', 3], None, 'Class 1'),
        (['cat', 'dog', 'Cat'], None, "'Cat' stands twice, in the classes 'cat' and 'Cat'"),
        ([['cat', 'kitten'], ['dog', 'kitten']], None, "'kitten' stands twice"),
        ([['cat', 'cat']], None, "in the class 'cat'"),
        (['cat', 'wall'], ['wall'], "'wall' stands twice, in the classes 'background' and 'wall'"),
        (['background'], 'auto', "called 'background'"),
        (['cat'], 'sky', 'must be'),
        (['cat'], [], 'must be'),
        (['cat'], ['sky', ' '], 'must be'),
        (['cat'], True, 'must be'),
        (SCLIP_BACKGROUND, 'auto', 'no words left'),
    ],
)
def test_wrong_words(classes, background, message):
    with pytest.raises(ValueError, match=message):
        read_words(classes, background)


def test_a_word_is_no_list():
    with pytest.raises(FileNotFoundError, match=r"given as a list: \['cat'\]"):
        read_words('cat', None)
