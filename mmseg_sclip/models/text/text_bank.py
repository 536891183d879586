"""From phrases to unit vectors in CLIP's joint space."""

import unicodedata
from collections.abc import Callable, Sequence

import torch
from mmengine.logging import print_log
from torch import Tensor, nn
from torch.nn import functional as F

from ...errors import ConfigError
from .prompt_encoding import encode_prompts

_warned: set[str] = set()  # phrases that `warn_of_scripts` has named


@torch.no_grad()
def encode_phrases(
    tower: nn.Module, tokenizer: Callable, phrases: Sequence[str], templates: Sequence[str], context_length: int
) -> Tensor:
    """Encode each phrase in every template: normalise, average over the templates, normalise again.

    Synonyms are not averaged: each phrase has a vector of its own (methods: CLIP's prompt ensemble).

    Args:
        tower: An open_clip model with `encode_text`.
        tokenizer: Of the same model.
        phrases: P phrases.
        templates: Strings with one `{}`.
        context_length: The longest prompt in tokens.

    Returns:
        (P, D), float32, unit norm, on the tower's device.

    Raises:
        ConfigError: A prompt is longer than the context.
    """
    tokens = torch.cat(
        [
            tokenize(tokenizer, [template.replace('{}', phrase) for template in templates], context_length, phrase)
            for phrase in phrases
        ]
    )
    vectors = F.normalize(encode_prompts(tower, tokens, f'Encoding {len(phrases)} phrases'), dim=-1)
    return F.normalize(vectors.unflatten(0, (len(phrases), -1)).mean(dim=1), dim=-1)  # (P, templates, D) to (P, D)


def tokenize(tokenizer: Callable, prompts: Sequence[str], context_length: int, phrase: str) -> Tensor:
    """Token ids (len(prompts), context_length); the tokenizers of open_clip would cut long prompts silently.

    Raises:
        ConfigError: A prompt does not fit; the message shows the phrase.
    """
    pad = getattr(getattr(tokenizer, 'tokenizer', None), 'pad_token_id', None) or 0
    tokens = tokenizer(list(prompts), context_length=context_length + 1)
    too_long = (tokens[:, context_length] != pad).nonzero()
    if len(too_long):
        raise ConfigError(
            f"The prompt '{prompts[too_long[0].item()]}' is longer than the {context_length} tokens that "
            f"this CLIP reads. Shorten the phrase '{phrase}'."
        )
    return tokens[:, :context_length]


def warn_of_scripts(phrases: Sequence[str]) -> None:
    """Say once of phrases in other scripts that a CLIP that reads English makes little of them."""
    foreign = [phrase for phrase in phrases if not phrase.isascii() and not any(map(_is_latin, phrase))]
    if not _warned.issuperset(foreign):
        _warned.update(foreign)
        more = f' and {len(foreign) - 3} more' if len(foreign) > 3 else ''
        print_log(
            f'This CLIP reads English, but these phrases have no Latin letter: {", ".join(foreign[:3])}{more}. Their '
            'scores mean little; write them in English.',
            logger='current',
            level=30,
        )


def _is_latin(character: str) -> bool:
    return 'LATIN' in unicodedata.name(character, '')
