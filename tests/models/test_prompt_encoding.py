"""Prompts as branches of trees, against the text tower's own run over all its positions."""

import pytest
import torch
from mmseg_sclip.models.text.prompt_encoding import _ends, _plant, encode_prompts
from open_clip import CLIP, CustomTextCLIP, SimpleTokenizer

from mmseg_sclip.models.clip import ClipSource
from mmseg_sclip.models.text import encode_phrases, load_templates, load_vocabulary

TEMPLATES = load_templates('openai_imagenet')
PHRASES = ['cat', 'remote control', 'sofa', 'sofa bed', '猫', 'cat']
TEXT = dict(context_length=77, vocab_size=49408, width=64, heads=2, layers=3)
VISION = dict(image_size=32, layers=1, width=64, head_width=32, patch_size=16)


def tokens_of(phrases, templates=TEMPLATES):
    return SimpleTokenizer()([template.replace('{}', phrase) for phrase in phrases for template in templates])


@pytest.fixture
def towers():
    torch.manual_seed(0)
    return [
        CLIP(64, VISION, TEXT, quick_gelu=True).eval(),
        CustomTextCLIP(64, VISION, TEXT).eval(),
        # 269 is the full stop, so that the end is not the highest id.
        CustomTextCLIP(64, VISION, dict(TEXT, pool_type='eos', eos_id=269, proj_bias=True)).eval(),
    ]


@torch.no_grad()
def test_equals_the_run_over_all_positions(towers):
    tokens = tokens_of(PHRASES)
    for tower in towers:
        expected = tower.encode_text(tokens)
        torch.testing.assert_close(encode_prompts(tower, tokens), expected, atol=2e-6, rtol=1e-5)


@torch.no_grad()
def test_goldens_weights_and_every_length(mini_clip):
    tower = ClipSource(**mini_clip).text_tower()
    tokens = tokens_of(['a ' * n + 'word' for n in range(0, 60, 7)], ['a photo of a {}.', '{}'])
    assert set(_ends(tower, tokens).tolist()) >= {2, 7, 58}  # from the shortest on
    torch.testing.assert_close(encode_prompts(tower, tokens), tower.encode_text(tokens), atol=2e-6, rtol=1e-5)


@torch.no_grad()
def test_towers_that_are_not_causal_read_all_positions(monkeypatch):
    torch.manual_seed(0)
    tokens = tokens_of(['cat', 'remote control'])
    for text in (dict(no_causal_mask=True), dict(embed_cls=True), dict(pool_type='last')):
        tower = CustomTextCLIP(64, VISION, dict(TEXT, **text)).eval()
        seen = []
        original = tower.encode_text
        monkeypatch.setattr(tower, 'encode_text', lambda part, f=original, s=seen: s.append(part.shape[1]) or f(part))
        torch.testing.assert_close(encode_prompts(tower, tokens), original(tokens), atol=2e-6, rtol=1e-5)
        assert set(seen) == {77}


def test_no_token_of_a_tree_is_computed_twice():
    tokens = tokens_of(PHRASES)
    prompts = [row[: end + 1] for row, end in zip(tokens.tolist(), tokens.argmax(1).tolist(), strict=True)]
    beginnings = {tuple(prompt[: length + 1]) for prompt in prompts for length in range(len(prompt))}
    (tree,) = _plant(prompts, 10**6)
    assert len(tree.tokens) == len(beginnings)
    assert max(len(tree.tokens) for tree in _plant(prompts, 100)) <= 100


@torch.no_grad()
def test_the_bank_equals_phrase_by_phrase(mini_clip):
    source = ClipSource(**mini_clip)
    tower, tokenizer = source.text_tower(), source.text_encoder().tokenizer()
    phrases = load_vocabulary('voc20').distinct[:7]
    expected = []
    for phrase in phrases:
        features = tower.encode_text(tokenizer([template.replace('{}', phrase) for template in TEMPLATES]))
        mean = (features / features.norm(dim=-1, keepdim=True)).mean(0)
        expected.append(mean / mean.norm())
    torch.testing.assert_close(
        encode_phrases(tower, tokenizer, phrases, TEMPLATES, 77), torch.stack(expected), atol=1e-6, rtol=0
    )


@torch.no_grad()
def test_progress_is_shown_on_a_terminal_only(towers, capfd, monkeypatch):
    asked = {}
    monkeypatch.setattr('mmseg_sclip.models.text.prompt_encoding.tqdm', lambda parts, **how: asked.update(how) or parts)
    encode_prompts(towers[0], tokens_of(['cat'], ['{}']), 'Encoding 1 phrase')
    assert (asked['desc'], asked['leave'], asked['disable']) == ('Encoding 1 phrase', False, None)
    monkeypatch.undo()
    encode_prompts(towers[0], tokens_of(['cat'], ['{}']))
    assert capfd.readouterr() == ('', '')
