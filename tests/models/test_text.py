"""Vocabularies, templates, the text bank and the head on top of it."""

import warnings

import open_clip
import pytest
import torch
from mmseg.registry import MODELS

from mmseg_sclip.errors import ConfigError, MissingFileError, UserError
from mmseg_sclip.models.clip import ClipSource
from mmseg_sclip.models.text import Vocabulary, load_templates, load_vocabulary, shipped_vocabularies


def write(path, text):
    path.write_text(text, encoding='utf-8')
    return path


def test_a_file_line_by_line(tmp_path):
    path = write(tmp_path / 'words.txt', '# pets\ncat, kitten\n  dog  \n# others\ntraffic light , lamp # on streets\n')
    vocabulary = load_vocabulary(str(path))
    assert vocabulary.classes == (('cat', 'kitten'), ('dog',), ('traffic light', 'lamp'))
    assert vocabulary.queries == ('cat', 'kitten', 'dog', 'traffic light', 'lamp')
    assert (vocabulary.num_classes, vocabulary.sizes) == (3, (2, 1, 2))
    assert vocabulary.class_names == ('cat', 'dog', 'traffic light')


def test_lists_of_names_and_of_phrases():
    assert load_vocabulary(['cat', ['dog', ' puppy ']]).classes == (('cat',), ('dog', 'puppy'))
    assert load_vocabulary(('cat',)).num_classes == 1


@pytest.mark.parametrize(
    'text, words',
    [
        ('cat\n\ndog\n', 'Line 2 of the vocabulary .* is blank'),
        ('cat\ndog\n\n', 'Line 3 of the vocabulary .* is blank'),
        ('cat, , dog\n', 'Line 1 of the vocabulary .* is an empty phrase'),
        ('# nothing\n', 'names no class'),
        ('', 'names no class'),
    ],
)
def test_bad_files_name_the_line(tmp_path, text, words):
    with pytest.raises(UserError, match=words):
        load_vocabulary(write(tmp_path / 'words.txt', text))


@pytest.mark.parametrize(
    'line, read',
    [
        ('cat,dog', '1 phrase: cat,dog'),
        ('cat; dog, cow;', '2 phrases: cat; dog | cow;'),
        ('sky (blue, clear, sea', '3 phrases: sky (blue | clear | sea'),
        ('sky blue), clear', '2 phrases: sky blue) | clear'),
        ('[cat, dog]', '1 phrase: [cat, dog]'),
        ('天空，草地', '1 phrase: 天空，草地'),
    ],
)
def test_other_separators_warn_once_and_show_how_the_line_was_read(tmp_path, line, read):
    path = write(tmp_path / 'words.txt', line)
    with pytest.warns(UserWarning, match='Line 1 of the vocabulary') as caught:
        vocabulary = load_vocabulary(path)
    assert f'It was read as {read}. Phrases' in str(caught[0].message)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert load_vocabulary(path) == load_vocabulary(vocabulary.classes)


def test_commas_within_parentheses_belong_to_the_phrase(tmp_path):
    path = write(tmp_path / 'words.txt', 'sky (blue, clear;bright), sea\nroom [old (1900, 1910), red]\n(a, b) c , d\n')
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        read = load_vocabulary(path)
        assert load_vocabulary([list(phrases) for phrases in read.classes]) == read
    assert read.classes == (('sky (blue, clear;bright)', 'sea'), ('room [old (1900, 1910), red]',), ('(a, b) c', 'd'))


def test_a_phrase_of_a_list_is_never_split_and_a_doubtful_one_is_named_once(mini_clip):
    model = head(mini_clip)
    doubtful = {'grass, lawn': load_vocabulary, 'a;b': model.set_vocabulary, 'a (': model.with_vocabulary}
    for phrase, use in doubtful.items():
        with pytest.warns(UserWarning, match='each entry is read as one phrase.*inner list') as caught:
            use([['cat', phrase], 'dog'])
        assert f'The phrase {phrase!r} has' in str(caught[0].message)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert load_vocabulary(list(doubtful)).num_classes == 3
    with pytest.warns(UserWarning, match=r'are also: b,2 \| b,3 \| b,4, and 1 more\.'):
        load_vocabulary(Vocabulary('mine', tuple((f'b,{number}',) for number in range(1, 6))))


def test_shipped_vocabularies_read_without_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        read = {name: load_vocabulary(name) for name in shipped_vocabularies()}
    assert len(read['coco_object'].distinct) == 112  # 'bed' is background and class
    assert read['context60'].classes[-1] == ('wood',)  # its file has a space behind it in SCLIP's repository


def test_names_win_over_files_and_folders_come_before_the_current_one(tmp_path, monkeypatch):
    beside, current = tmp_path / 'config', tmp_path / 'cwd'
    beside.mkdir()
    current.mkdir()
    monkeypatch.chdir(current)
    write(current / 'voc20', 'wrong\n')
    write(current / 'w.txt', 'here\n')
    assert load_vocabulary('voc20').num_classes == 20
    assert load_vocabulary('w.txt', [beside]).classes == (('here',),)
    write(beside / 'w.txt', 'beside\n')
    assert load_vocabulary('w.txt', [beside]).classes == (('beside',),)


def test_a_missing_one_is_named_with_the_nearest_and_the_places():
    with pytest.raises(MissingFileError, match="no vocabulary 'voc12'. Did you mean 'voc2[01]'.*looked for at .*voc12"):
        load_vocabulary('voc12')


@pytest.mark.parametrize('spec', [None, [], 5, ['cat', ''], ['cat', []], [['cat', None]], {'cat': 1}])
def test_wrong_lists_are_refused(spec):
    with pytest.raises(ConfigError, match='vocabulary'):
        load_vocabulary(spec)


def test_templates():
    assert len(load_templates('openai_imagenet')) == 80
    assert [t.replace('{}', 'cat') for t in load_templates('openai_imagenet')] == [
        t('cat') for t in open_clip.OPENAI_IMAGENET_TEMPLATES
    ]
    assert load_templates('simple') == ('a photo of a {}.',)
    assert load_templates(['{}!']) == ('{}!',)


@pytest.mark.parametrize('spec', ['simpel', [], ['a photo'], ['{} and {}'], [5], None])
def test_wrong_templates_are_refused(spec):
    with pytest.raises(ConfigError, match='template'):
        load_templates(spec)


def head(clip, **config):
    return MODELS.build(
        {**dict(type='TextSimilarityHead', vocabulary=['cat', 'dog'], templates='simple', clip=clip), **config}
    )


def test_scores_are_cosines_in_any_scale(mini_clip):
    features = torch.randn(2, 64, 3, 5)
    model = head(mini_clip, vocabulary=[['cat', 'kitten'], 'dog'])
    scores = model(100 * features)
    assert scores.shape == (2, 3, 3, 5)
    bank = model.text_bank
    torch.testing.assert_close(bank.norm(dim=1), torch.ones(3))
    by_hand = features[1, :, 2, 4] @ bank[2] / features[1, :, 2, 4].norm()
    torch.testing.assert_close(scores[1, 2, 2, 4], by_hand)
    torch.testing.assert_close(model((features,)), scores, atol=1e-6, rtol=0)


def test_the_head_stays_in_float32_under_autocast(mini_clip):
    model = head(mini_clip)
    features = torch.randn(1, 64, 3, 3)
    expected = model(features)
    with torch.autocast('cpu', torch.bfloat16):
        assert torch.equal(model(features), expected)


def test_each_distinct_phrase_is_encoded_once_and_ties_stay_exact(mini_clip, monkeypatch, fresh_cache):
    import mmseg_sclip.models.heads.text_similarity as module

    encoded = []
    original = module.encode_phrases
    monkeypatch.setattr(
        module, 'encode_phrases', lambda t, k, phrases, *a: encoded.extend(phrases) or original(t, k, phrases, *a)
    )
    model = head(mini_clip, vocabulary=[['sky', 'bed'], 'cat', 'bed'])
    scores = model(torch.randn(1, 64, 4, 4))
    model(torch.randn(1, 64, 4, 4))
    assert encoded == ['sky', 'bed', 'cat']
    assert scores.shape[1] == model.out_channels == 4
    assert torch.equal(scores[:, 1], scores[:, 3])


def test_a_prompt_one_token_too_long_shows_the_phrase_and_one_that_fits_is_read_to_its_end(mini_clip):
    template, fits = 'a photo of a {}.', 'very ' * 69 + 'long'  # 70 tokens, 5 of the template, 2 marks: 77
    model = head(mini_clip, vocabulary=['cat', f'very {fits}'])
    with pytest.raises(ConfigError, match='longer than the 77 tokens .*Shorten the phrase .very'):
        model.encode_vocabulary(torch.device('cpu'))
    bank = head(mini_clip, vocabulary=[fits]).encode_vocabulary(torch.device('cpu'))
    tokens = open_clip.tokenize([template.replace('{}', fits)])
    assert tokens[0, -1] == 49407  # the end token stands at the last position
    expected = model.source.text_tower().encode_text(tokens)
    torch.testing.assert_close(bank, torch.nn.functional.normalize(expected, dim=-1), atol=1e-6, rtol=0)


def test_other_scripts_are_warned_of_once_where_clip_reads_english(mini_clip, monkeypatch):
    said = []
    monkeypatch.setattr('mmseg_sclip.models.text.text_bank.print_log', lambda text, **_: said.append(text))
    for vocabulary in (['cat', 'Garçon', '747', 'ÉTÉ'], ['cat', '鹤', 'журавль'], ['鹤', 'журавль']):
        head(mini_clip, vocabulary=vocabulary).encode_vocabulary(torch.device('cpu'))
    assert len(said) == 1
    assert 'reads English' in said[0] and 'no Latin letter: 鹤, журавль.' in said[0]
    monkeypatch.setattr(ClipSource, 'reads_english', False)
    head(mini_clip, vocabulary=['γερανός']).encode_vocabulary(torch.device('cpu'))
    assert len(said) == 1


def test_braces_in_a_phrase_are_just_characters(mini_clip):
    head(mini_clip, vocabulary=['{cat}', 'a {} b'])(torch.randn(1, 64, 2, 2))


def test_class_names_of_a_list_a_dataset_and_none(mini_clip):
    assert head(mini_clip).dataset_meta['classes'] == ['cat', 'dog']
    assert head(mini_clip, class_names=['C', 'D']).dataset_meta['classes'] == ['C', 'D']
    meta = head(mini_clip, vocabulary='voc21', class_names='PascalVOCDataset').dataset_meta
    assert (meta['classes'][:2], meta['palette'][1]) == (['background', 'aeroplane'], [128, 0, 0])
    colours = head(mini_clip, vocabulary='coco_stuff').dataset_meta['palette']
    assert len({tuple(colour) for colour in colours}) == 171


@pytest.mark.parametrize(
    'config, words',
    [
        (dict(class_names=['C']), 'has 1 names, but the vocabulary given as a list has 2 classes'),
        (dict(class_names='PascalVOCDataset'), 'has 21 names'),
        (dict(class_names='PascalVocDataset'), "Did you mean 'PascalVOC"),
        (dict(background_index=2), 'has the classes 0 to 1'),
        (dict(background_index=-1), 'has the classes 0 to 1'),
        (dict(clip=None), 'TextSimilarityHead has no CLIP'),
    ],
    ids=str,
)
def test_wrong_heads_are_refused(mini_clip, config, words):
    with pytest.raises(ConfigError, match=words):
        head(**{'clip': mini_clip, **config})


def test_a_vocabulary_of_ones_own():
    vocabulary = Vocabulary('mine', (('sky', 'wall'), ('cat', 'kitten')), ('background', 'cat'), 0)
    assert load_vocabulary(vocabulary) is vocabulary
    assert vocabulary.queries == ('sky', 'wall', 'cat', 'kitten')
    assert vocabulary.class_names == ('background', 'cat')
