"""From phrases to unit vectors in CLIP's joint space."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .prompt_encoding import encode_prompts


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
        ValueError: A prompt is longer than the context.
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
        ValueError: A prompt does not fit; the message shows the phrase.
    """
    pad = getattr(getattr(tokenizer, 'tokenizer', None), 'pad_token_id', None) or 0
    tokens = tokenizer(list(prompts), context_length=context_length + 1)
    too_long = (tokens[:, context_length] != pad).nonzero()
    if len(too_long):
        raise ValueError(
            f"The prompt '{prompts[too_long[0].item()]}' is longer than the {context_length} tokens that "
            f"this CLIP reads. Shorten the phrase '{phrase}'."
        )
    return tokens[:, :context_length]
