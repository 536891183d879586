"""Vocabularies, templates, and the head on top of a bank of vectors."""

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


def test_a_file_line_by_line_and_lists(tmp_path):
    path = write(tmp_path / 'words.txt', '# pets\ncat, kitten\n  dog  \n# others\ntraffic light , lamp # on streets\n')
    vocabulary = load_vocabulary(str(path))
    assert vocabulary.classes == (('cat', 'kitten'), ('dog',), ('traffic light', 'lamp'))
    assert vocabulary.queries == ('cat', 'kitten', 'dog', 'traffic light', 'lamp')
    assert (vocabulary.num_classes, vocabulary.sizes) == (3, (2, 1, 2))
    assert vocabulary.class_names == ('cat', 'dog', 'traffic light')
    assert load_vocabulary(('cat', ['dog', ' puppy '])).classes == (('cat',), ('dog', 'puppy'))
    own = Vocabulary('mine', (('sky', 'wall'), ('cat', 'kitten')), ('background', 'cat'), 0)
    assert load_vocabulary(own) is own and own.class_names == ('background', 'cat')


@pytest.mark.parametrize(
    'read, spec, words',
    [
        ('file', 'cat\n\ndog\n', 'Line 2 of the vocabulary .* is blank'),
        ('file', 'cat\ndog\n\n', 'Line 3 of the vocabulary .* is blank'),
        ('file', 'cat, , dog\n', 'Line 1 of the vocabulary .* is an empty phrase'),
        ('file', '# nothing\n', 'names no class'),
        ('file', '', 'names no class'),
        *(
            ('list', spec, 'vocabulary')
            for spec in (None, [], 5, ['cat', ''], ['cat', []], [['cat', None]], {'cat': 1})
        ),
        ('list', 'voc12', "no vocabulary 'voc12'. Did you mean 'voc2[01]'.*looked for at .*voc12"),
        *(('templates', spec, 'template') for spec in ('simpel', [], ['a photo'], ['{} and {}'], [5], None)),
        ('head', dict(class_names=['C']), 'has 1 names, but the vocabulary given as a list has 2 classes'),
        ('head', dict(class_names='PascalVOCDataset'), 'has 21 names'),
        ('head', dict(class_names='PascalVocDataset'), "Did you mean 'PascalVOC"),
        ('head', dict(background_index=2), 'has the classes 0 to 1'),
        ('head', dict(background_index=-1), 'has the classes 0 to 1'),
        ('head', dict(clip=None), 'TextSimilarityHead has no CLIP'),
    ],
    ids=str,
)
def test_what_is_refused(tmp_path, source, read, spec, words):
    readers = dict(
        file=lambda text: load_vocabulary(write(tmp_path / 'words.txt', text)),
        list=load_vocabulary,
        templates=load_templates,
        head=lambda config: head(**{'clip': source, **config}),
    )
    kind = MissingFileError if spec == 'voc12' else UserError if read == 'file' else ConfigError
    with pytest.raises(kind, match=words):
        readers[read](spec)


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


def test_commas_within_parentheses_belong_to_the_phrase_and_shipped_files_read_without_warnings(tmp_path):
    path = write(tmp_path / 'words.txt', 'sky (blue, clear;bright), sea\nroom [old (1900, 1910), red]\n(a, b) c , d\n')
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        read = load_vocabulary(path)
        assert load_vocabulary([list(phrases) for phrases in read.classes]) == read
        shipped = {name: load_vocabulary(name) for name in shipped_vocabularies()}
    assert read.classes == (('sky (blue, clear;bright)', 'sea'), ('room [old (1900, 1910), red]',), ('(a, b) c', 'd'))
    assert len(shipped['coco_object'].distinct) == 112  # 'bed' is background and class
    assert shipped['context60'].classes[-1] == ('wood',)  # its file has a space after it in SCLIP's repository


def test_a_phrase_of_a_list_is_never_split_and_a_doubtful_one_is_named_once(source):
    model = head(source)
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


def test_templates():
    assert load_templates('openai_imagenet') == tuple(t('{}') for t in open_clip.OPENAI_IMAGENET_TEMPLATES)
    assert len(load_templates('openai_imagenet')) == 80
    assert load_templates('simple') == ('a photo of a {}.',)
    assert load_templates(['{}!']) == ('{}!',)


@pytest.fixture(scope='module')
def source(mini_clip):
    """One CLIP whose text tower stays in memory."""
    return ClipSource(**mini_clip, keep_text=True)


def head(clip, **config):
    return MODELS.build(
        {**dict(type='TextSimilarityHead', vocabulary=['cat', 'dog'], templates='simple', clip=clip), **config}
    )


def test_scores_are_float32_cosines_in_any_scale(source):
    features = torch.randn(2, 64, 3, 5)
    model = head(source, vocabulary=[['cat', 'kitten'], 'dog'])
    scores = model(100 * features)
    assert scores.shape == (2, 3, 3, 5)
    bank = model.text_bank
    torch.testing.assert_close(bank.norm(dim=1), torch.ones(3))
    by_hand = features[1, :, 2, 4] @ bank[2] / features[1, :, 2, 4].norm()
    torch.testing.assert_close(scores[1, 2, 2, 4], by_hand)
    torch.testing.assert_close(model((features,)), scores, atol=1e-6, rtol=0)
    with torch.autocast('cpu', torch.bfloat16):
        assert torch.equal(model(100 * features), scores)


def test_each_distinct_phrase_is_encoded_once_and_ties_stay_exact(source, monkeypatch):
    asked, encode = [], source.text_encoder().encode
    monkeypatch.setattr(
        source.text_encoder(), 'encode', lambda words, *more: asked.extend(words) or encode(words, *more)
    )
    model = head(source, vocabulary=[['sky', 'bed'], 'cat', 'bed'])
    scores = model(torch.randn(1, 64, 4, 4))
    model(torch.randn(1, 64, 4, 4))
    assert asked == ['sky', 'bed', 'cat']
    assert scores.shape[1] == model.out_channels == 4
    assert torch.equal(scores[:, 1], scores[:, 3])


def test_a_prompt_one_token_too_long_is_shown_and_one_that_fits_is_read_to_its_end(source, fresh_cache):
    template, fits = 'a photo of a {}.', 'very ' * 69 + 'long'  # 70 tokens, 5 of the template, 2 marks: 77
    encoder, cpu = source.text_encoder(), torch.device('cpu')
    with pytest.raises(ConfigError, match='The prompt .a photo of a very .* the 77 tokens .*Shorten the phrase'):
        encoder.encode(['cat', f'very {fits}'], [template], cpu)
    tokens = open_clip.tokenize([template.replace('{}', fits)])
    assert tokens[0, -1] == 49407  # the end token stands at the last position
    expected = torch.nn.functional.normalize(encoder.network.encode_text(tokens), dim=-1)
    torch.testing.assert_close(encoder.encode([fits], [template], cpu), expected, atol=1e-6, rtol=0)


def test_other_scripts_are_warned_of_once_where_clip_reads_english(source, monkeypatch):
    said = []
    monkeypatch.setattr('mmseg_sclip.models.text.encoder.print_log', lambda text, **_: said.append(text))
    encoder = source.text_encoder()
    for words in (['cat', 'Garçon', '747', 'ÉTÉ'], ['cat', '鹤', 'журавль'], ['鹤', 'журавль']):
        encoder.encode(words, ['{}'], torch.device('cpu'))
    assert len(said) == 1
    assert 'reads English' in said[0] and 'no Latin letter: 鹤, журавль.' in said[0]
    monkeypatch.setattr(encoder, 'reads_english', False)
    encoder.encode(['γερανός'], ['{}'], torch.device('cpu'))
    assert len(said) == 1


def test_class_names_of_a_list_a_dataset_and_none(source):
    assert head(source).dataset_meta['classes'] == ['cat', 'dog']
    assert head(source, class_names=['C', 'D']).dataset_meta['classes'] == ['C', 'D']
    meta = head(source, vocabulary='voc21', class_names='PascalVOCDataset').dataset_meta
    assert (meta['classes'][:2], meta['palette'][1]) == (['background', 'aeroplane'], [128, 0, 0])
    colours = head(source, vocabulary='coco_stuff').dataset_meta['palette']
    assert len({tuple(colour) for colour in colours}) == 171
