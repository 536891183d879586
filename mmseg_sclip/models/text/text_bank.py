"""From phrases to unit vectors in CLIP's joint space."""

from collections.abc import Callable, Sequence

import torch
from rich.progress import track
from torch import Tensor, nn
from torch.nn import functional as F


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
    device = next(tower.parameters()).device
    tokens = [
        tokenize(tokenizer, [template.replace('{}', phrase) for template in templates], context_length, phrase)
        for phrase in phrases
    ]
    bank = []
    for prompts in track(tokens, description=f'Encoding {len(phrases)} phrases', transient=True):
        with torch.autocast(device.type, enabled=False):
            features = F.normalize(tower.encode_text(prompts.to(device)).float(), dim=-1)  # (templates, D)
        bank.append(F.normalize(features.mean(dim=0), dim=-1))
    return torch.stack(bank)


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
