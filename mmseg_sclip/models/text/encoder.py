"""From phrases to unit vectors in the space of images and text."""

from __future__ import annotations

import threading
import unicodedata
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from mmengine.logging import print_log
from torch import Tensor, nn
from torch.nn import functional as F

from ...paths import cache_root
from .bank_cache import TextBankCache

_LOCK = threading.RLock()  # one text tower serves all threads
_warned: set[str] = set()  # phrases that `warn_of_scripts` has named


class TextEncoder:
    """The base of all text encoders.

    Phrases are read from a cache on disk; of those that are not in it, each is encoded once and added. A network gets
    memory only for these, and loses it afterwards unless `keep`. A kind of encoder writes `load`, `embed` and
    `identity`.

    Args:
        keep: Keep the network in memory, for phrases that change.
        cache_dir: The folder of the cache; None for mmseg_sclip's own.

    Attributes:
        reads_english: Whether phrases in other scripts mean little to it, of which a warning then says so.
        logit_scale: What cosines were multiplied with in training.
        normalises_prompts: Whether the vector of each prompt gets the norm 1 before they are averaged over templates.
        network: What `load` has made; None where it has no memory.
    """

    reads_english: bool = True
    logit_scale: float = 100.0
    normalises_prompts: bool = True
    network: nn.Module | None = None

    def __init__(self, keep: bool = False, cache_dir: str | None = None) -> None:
        self.keep = keep
        self.cache_dir = cache_dir

    @property
    def folder(self) -> Path:
        """The folder of encoded phrases."""
        return (cache_root() if self.cache_dir is None else Path(self.cache_dir).expanduser()) / 'text_banks'

    def load(self) -> nn.Module:
        """The network with its weights, frozen."""
        raise NotImplementedError(f'{type(self).__name__} must define load().')

    def embed(self, network: Any, prompts: Sequence[str]) -> Tensor:
        """One vector per prompt, (prompts, D), not normalised.

        Args:
            network: What `load` has made, on the device to use.
            prompts: Whole sentences.
        """
        raise NotImplementedError(f'{type(self).__name__} must define embed(network, prompts).')

    def identity(self) -> Mapping[str, Any] | None:
        """All that the vectors of prompts depend on, JSON types; None where they must not be kept on disk."""
        return None

    def release(self) -> None:
        """Called when phrases have been encoded: forget what was read for it."""

    def encode(self, phrases: Sequence[str], templates: Sequence[str], device: torch.device) -> Tensor:
        """The vector of each phrase, from the cache where it is in it.

        Args:
            phrases: P phrases, without repetitions.
            templates: Strings with one `{}`.
            device: Where the network runs.

        Returns:
            (P, D), float32, unit norm, on the device.

        Raises:
            ConfigError: A prompt is too long for the encoder.
        """
        if self.reads_english:
            warn_of_scripts(phrases)
        # A later training may need the vectors, so they are made without inference mode.
        with _LOCK, torch.inference_mode(False), torch.no_grad(), torch.autocast(device.type, enabled=False):
            identity, encode = self.identity(), partial(self._encode, templates, device)
            if identity is None:
                bank = encode(phrases)
            else:
                cache = TextBankCache(self.folder, dict(clip=identity, templates=list(templates)))
                bank = cache.complete(phrases, encode)
            if not self.keep:
                self.network = None
            self.release()
            return bank.to(device)

    def _encode(self, templates: Sequence[str], device: torch.device, phrases: Sequence[str]) -> Tensor:
        """Each phrase in every template: normalised unless `normalises_prompts` is off, averaged, normalised.

        Synonyms are not averaged: each phrase has a vector of its own (methods: CLIP's prompt ensemble).
        """
        if self.network is None:
            self.network = self.load()
        prompts = [template.replace('{}', phrase) for phrase in phrases for template in templates]
        vectors = self.embed(self.network.to(device), prompts).float()
        vectors = F.normalize(vectors, dim=-1) if self.normalises_prompts else vectors
        return F.normalize(vectors.unflatten(0, (len(phrases), -1)).mean(dim=1), dim=-1)


def warn_of_scripts(phrases: Sequence[str]) -> None:
    """Say once of phrases in other scripts that an encoder that reads English makes little of them."""
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
