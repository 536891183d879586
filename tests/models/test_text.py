"""Vocabularies, templates, and what is made of prompts: no token twice, unit vectors, and none too long."""

import json
import warnings

import open_clip
import pytest
import torch
from helpers import write_clip
from mmseg.registry import MODELS
from open_clip import CLIP, CustomTextCLIP, SimpleTokenizer

from mmseg_sclip.errors import ConfigError, MissingFileError, UserError
from mmseg_sclip.models.clip import ClipSource
from mmseg_sclip.models.clip.prompt_encoding import _plant, encode_prompts
from mmseg_sclip.models.clip.text_encoder import tokenize
from mmseg_sclip.models.text import Vocabulary, load_templates, load_vocabulary, shipped_vocabularies

CPU = torch.device('cpu')


def write(path, text):
    path.write_text(text, encoding='utf-8')
    return path


def head(clip, **config):
    return MODELS.build(
        {**dict(type='TextSimilarityHead', vocabulary=['cat', 'dog'], templates='simple', clip=clip), **config}
    )


def test_a_file_line_by_line_and_lists(tmp_path, monkeypatch):
    path = write(tmp_path / 'words.txt', '# pets\ncat, kitten\n  dog  \n# others\ntraffic light , lamp # on streets\n')
    vocabulary = load_vocabulary(str(path))
    assert vocabulary.classes == (('cat', 'kitten'), ('dog',), ('traffic light', 'lamp'))
    assert vocabulary.queries == ('cat', 'kitten', 'dog', 'traffic light', 'lamp')
    assert (vocabulary.sizes, vocabulary.class_names) == ((2, 1, 2), ('cat', 'dog', 'traffic light'))
    assert load_vocabulary(('cat', ['dog', ' puppy '])).classes == (('cat',), ('dog', 'puppy'))
    own = Vocabulary('mine', (('sky', 'wall'), ('cat', 'kitten')), ('background', 'cat'), 0)
    assert load_vocabulary(own) is own and own.class_names == ('background', 'cat')
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'beside').mkdir()
    write(tmp_path / 'voc20', 'wrong\n')  # names win over files
    assert load_vocabulary('voc20').num_classes == 20
    for folder, word in ((tmp_path, 'here'), (tmp_path / 'beside', 'beside')):  # and folders over the current one
        write(folder / 'w.txt', word)
        assert load_vocabulary('w.txt', [tmp_path / 'beside']).classes == ((word,),)
    assert len(load_templates('openai_imagenet')) == 80 and load_templates(['{}!']) == ('{}!',)


@pytest.mark.parametrize(
    'read, spec, words',
    [
        ('file', 'cat\n\ndog\n', 'Line 2 of the vocabulary .* is blank'),
        ('file', 'cat, , dog\n', 'Line 1 of the vocabulary .* is an empty phrase'),
        ('file', '# nothing\n', 'names no class'),
        *(('list', spec, 'vocabulary') for spec in (None, [], 5, ['cat', ''], ['cat', []], [['cat', None]], {'a': 1})),
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


def test_other_separators_warn_once_and_show_how_the_line_was_read(tmp_path):
    for line, read in (
        ('cat,dog', '1 phrase: cat,dog'),
        ('cat; dog, cow;', '2 phrases: cat; dog | cow;'),
        ('sky (blue, clear, sea', '3 phrases: sky (blue | clear | sea'),
        ('sky blue), clear', '2 phrases: sky blue) | clear'),
        ('[cat, dog]', '1 phrase: [cat, dog]'),
        ('天空，草地', '1 phrase: 天空，草地'),
    ):
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


def test_class_names_and_colours_of_a_list_a_dataset_and_none(source):
    assert head(source).dataset_meta['classes'] == ['cat', 'dog']
    assert head(source, class_names=['C', 'D'], background_index=1).dataset_meta['classes'] == ['C', 'D']
    black = [colour == [0, 0, 0] for colour in head(source, background_index=1).dataset_meta['palette']]
    assert black == [False, True]
    meta = head(source, vocabulary='voc21', class_names='PascalVOCDataset').dataset_meta
    assert (meta['classes'][:2], meta['palette'][1]) == (['background', 'aeroplane'], [128, 0, 0])
    assert len(set(map(tuple, head(source, vocabulary='coco_stuff').dataset_meta['palette']))) == 171


def test_each_distinct_phrase_is_encoded_once_and_other_scripts_are_warned_of_once(mini_clip, monkeypatch):
    asked, said, source = [], [], ClipSource(**mini_clip)
    encoder = source.text_encoder()
    monkeypatch.setattr('mmseg_sclip.models.text.encoder.print_log', lambda text, **_: said.append(text))
    encode = encoder.encode
    monkeypatch.setattr(encoder, 'encode', lambda words, *more: asked.extend(words) or encode(words, *more))
    model = head(source, vocabulary=[['sky', 'bed'], 'Garçon', 'bed', 'ÉTÉ'])
    for _ in range(2):
        model(torch.randn(1, 64, 4, 4))
    assert asked == ['sky', 'bed', 'Garçon', 'ÉTÉ'] and not said
    for words in (['747', '鹤', 'журавль'], ['鹤', 'журавль']):
        encoder.encode(words, ['{}'], CPU)
    assert len(said) == 1 and 'reads English' in said[0] and 'no Latin letter: 鹤, журавль.' in said[0]
    monkeypatch.setattr(encoder, 'reads_english', False)
    encoder.encode(['γερανός'], ['{}'], CPU)
    assert len(said) == 1


def test_a_prompt_one_token_too_long_is_shown_and_one_that_fits_is_read_to_its_end(mini_clip, fresh_cache):
    template, fits = 'a photo of a {}.', 'very ' * 69 + 'long'  # 70 tokens, 5 of the template, 2 marks: 77
    encoder = ClipSource(**mini_clip, keep_text=True).text_encoder()
    with pytest.raises(ConfigError, match='The prompt .a photo of a very .* the 77 tokens .*Shorten the phrase'):
        encoder.encode(['cat', f'very {fits}'], [template], CPU)
    tokens = open_clip.tokenize([template.replace('{}', fits)])
    assert tokens[0, -1] == 49407  # the end token stands at the last position
    expected = torch.nn.functional.normalize(encoder.network.encode_text(tokens), dim=-1)
    torch.testing.assert_close(encoder.encode([fits], [template], CPU), expected, atol=1e-6, rtol=0)

    class Padded:  # whose padding is no text
        tokenizer = type('Tokenizer', (), dict(pad_token_id=9))

        def __call__(self, prompts, context_length):
            return torch.tensor([([1] * len(p.split()) + [9] * context_length)[:context_length] for p in prompts])

    assert tokenize(Padded(), ['a b', 'a b c'], 3).tolist() == [[1, 1, 9], [1, 1, 1]]
    with pytest.raises(ConfigError, match="'a b c d' is longer"):
        tokenize(Padded(), ['a b', 'a b c d'], 3)


PHRASES = ['cat', 'remote control', 'sofa', 'sofa bed', '猫', 'cat', 'a ' * 50 + 'word']
TEXT = dict(context_length=77, vocab_size=49408, width=64, heads=2, layers=2)
VISION = dict(image_size=32, layers=1, width=64, head_width=32, patch_size=16)


def tokens_of(templates):
    return SimpleTokenizer()([template.replace('{}', phrase) for phrase in PHRASES for template in templates])


@pytest.mark.parametrize(
    'kind, text, shared',
    [
        (CLIP, {}, True),
        # 269 is the full stop, so that the end is not the highest id.
        (CustomTextCLIP, dict(pool_type='eos', eos_id=269, proj_bias=True), True),
        (CustomTextCLIP, dict(no_causal_mask=True), False),
        (CustomTextCLIP, dict(embed_cls=True), False),
        (CustomTextCLIP, dict(pool_type='last'), False),
    ],
    ids=str,
)
@torch.no_grad()
def test_prompts_as_branches_of_trees_equal_the_run_over_all_positions(
    monkeypatch, tmp_path, capfd, kind, text, shared
):
    torch.manual_seed(0)
    tower = kind(64, VISION, dict(TEXT, **text), quick_gelu=kind is CLIP).eval()
    tokens = tokens_of(['{}', *load_templates('openai_imagenet')[::20]])
    seen, original = [], tower.encode_text
    expected = original(tokens)
    monkeypatch.setattr(tower, 'encode_text', lambda part: seen.append(part.shape[1]) or original(part))
    torch.testing.assert_close(encode_prompts(tower, tokens), expected, atol=2e-6, rtol=1e-5)
    assert set(seen) == (set() if shared else {77})  # towers that are not causal read all positions
    prompts = [row[: end + 1] for row, end in zip(tokens.tolist(), tokens.argmax(1).tolist(), strict=True)]
    (tree,) = _plant(prompts, 10**6)  # in which no token is computed twice
    assert len(tree.tokens) == len({tuple(prompt[: end + 1]) for prompt in prompts for end in range(len(prompt))})
    assert max(len(tree.tokens) for tree in _plant(prompts, 100)) <= 100
    assert capfd.readouterr() == ('', '')  # progress is shown on a terminal only
    clip = write_clip(tmp_path, tower.state_dict())
    content = dict(embed_dim=64, vision_cfg=VISION, text_cfg=dict(TEXT, **text), quick_gelu=kind is CLIP)
    (tmp_path / 'clip.json').write_text(json.dumps(dict(content, custom_text=kind is CustomTextCLIP)))
    lower = ClipSource(**clip, precision='bf16').text_tower()
    assert torch.cosine_similarity(encode_prompts(lower, tokens), expected).min() > 0.99
