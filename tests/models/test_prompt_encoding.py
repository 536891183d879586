"""Prompts as branches of trees, against the text tower's own run over all its positions."""

import pytest
import torch
from open_clip import CLIP, CustomTextCLIP, SimpleTokenizer

from mmseg_sclip.models.clip import ClipSource
from mmseg_sclip.models.clip.prompt_encoding import _ends, _plant, encode_prompts
from mmseg_sclip.models.text import load_templates

PHRASES = ['cat', 'remote control', 'sofa', 'sofa bed', '猫', 'cat']
TEXT = dict(context_length=77, vocab_size=49408, width=64, heads=2, layers=2)
VISION = dict(image_size=32, layers=1, width=64, head_width=32, patch_size=16)


def tokens_of(phrases, templates):
    return SimpleTokenizer()([template.replace('{}', phrase) for phrase in phrases for template in templates])


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
def test_equals_the_run_over_all_positions(monkeypatch, kind, text, shared):
    torch.manual_seed(0)
    tower = kind(64, VISION, dict(TEXT, **text), quick_gelu=kind is CLIP).eval()
    tokens = tokens_of(PHRASES, load_templates('openai_imagenet')[::20])
    seen, original = [], tower.encode_text
    expected = original(tokens)
    monkeypatch.setattr(tower, 'encode_text', lambda part: seen.append(part.shape[1]) or original(part))
    torch.testing.assert_close(encode_prompts(tower, tokens), expected, atol=2e-6, rtol=1e-5)
    assert set(seen) == (set() if shared else {77})  # towers that are not causal read all positions


@torch.no_grad()
def test_goldens_weights_and_every_length(mini_clip, monkeypatch, capfd):
    tower = ClipSource(**mini_clip).text_tower()
    tokens = tokens_of(['a ' * n + 'word' for n in range(0, 60, 7)], ['a photo of a {}.', '{}'])
    assert set(_ends(tower, tokens).tolist()) >= {2, 7, 58}  # from the shortest on
    torch.testing.assert_close(encode_prompts(tower, tokens), tower.encode_text(tokens), atol=2e-6, rtol=1e-5)
    assert capfd.readouterr() == ('', '')  # progress is shown on a terminal only
    asked = {}
    monkeypatch.setattr('mmseg_sclip.models.clip.prompt_encoding.tqdm', lambda parts, **how: asked.update(how) or parts)
    encode_prompts(tower, tokens, 'Encoding')
    assert (asked['desc'], asked['leave'], asked['disable']) == ('Encoding', False, None)


def test_no_token_of_a_tree_is_computed_twice():
    tokens = tokens_of(PHRASES, load_templates('openai_imagenet'))
    prompts = [row[: end + 1] for row, end in zip(tokens.tolist(), tokens.argmax(1).tolist(), strict=True)]
    beginnings = {tuple(prompt[: length + 1]) for prompt in prompts for length in range(len(prompt))}
    (tree,) = _plant(prompts, 10**6)
    assert len(tree.tokens) == len(beginnings)
    assert max(len(tree.tokens) for tree in _plant(prompts, 100)) <= 100
