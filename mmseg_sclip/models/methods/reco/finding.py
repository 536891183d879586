"""From the images of classes to their reference vectors, each found once over the life of a cache."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ....errors import MissingFileError
from ....paths import cache_root
from ...record import Record
from ...text.bank_cache import TextBankCache
from .cosegmentation import patch_weights, reference, seeds
from .references import References, VectorReferences, plain, to_square

if TYPE_CHECKING:
    from .head import RecoHead

_VERSION = 1  # to be raised when the vectors of the same images change beyond rounding
_BATCH = 16  # images that go through the networks at once
_SAME = {'vegetation': 'tree'}  # classes that take the vector of a context class by another name


class Subject(NamedTuple):
    """What has a reference vector: a class, or a phrase of the background.

    Attributes:
        phrase: Its first phrase, by whose words its images are searched.
        names: Under which its images are looked for, the best first.
    """

    phrase: str
    names: tuple[str, ...]


class ReferenceFinder:
    """Finds the vectors of a head's classes in images, with the networks of a record.

    Args:
        head: The head.
        references: Its images.
        record: Any record of the networks.
    """

    def __init__(self, head: RecoHead, references: References, record: Record) -> None:
        self.head, self.references, self.record = head, references, record
        self.device = record.images.device
        self.cache: TextBankCache | None = None
        self._identities: dict[str, list[str]] = {}  # of images by name, since they are read for it

    def bank(self) -> Tensor:
        """(subjects, C), unit norm.

        Raises:
            MissingFileError: There are too few images of some classes; the message lists them all.
        """
        head = self.head
        places = [self._context_of(subject.names) or self._place_of(subject.names) for subject in head.subjects]
        self._refuse_missing(places)
        self.cache = self._cache()
        texts = dict(zip(head.vocabulary.distinct, head.encode_vocabulary(self.device), strict=True))
        context: dict[str, Tensor] = {}
        words = head.text_encoder.encode(head.context, head.templates, self.device) if head.context else ()
        for name, text in zip(head.context, words, strict=True):
            wanted = {self._key(name, name): (name, text)}
            (context[name],) = self._complete(wanted, list(context.values())).values()
        others = {
            self._key(subject.phrase, place): (place, texts[subject.phrase])
            for subject, place in zip(head.subjects, places, strict=True)
            if place not in context
        }
        found = self._complete(others, list(context.values()))
        return torch.stack(
            [
                context[place] if place in context else found[self._key(subject.phrase, place)]
                for subject, place in zip(head.subjects, places, strict=True)
            ]
        )

    def _context_of(self, names: Sequence[str]) -> str | None:
        """The context class that a class with these names is."""
        known = [_SAME.get(name, name) for name in names]
        return next((name for name in known if name in self.head.context), None)

    def _place_of(self, names: Sequence[str]) -> str:
        """The name under which there are enough images; the first one where there is none."""
        return next((name for name in names if self.references.number(name) >= self.head.least_images), names[0])

    def _refuse_missing(self, places: Sequence[str]) -> None:
        least = self.head.least_images
        numbers = {name: self.references.number(name) for name in (*self.head.context, *places)}
        few = [f'{name} ({number})' for name, number in numbers.items() if number < least]
        if few:
            raise MissingFileError(
                f'{self.references.where} has fewer than {least} images of {len(few)} classes, whose number is in '
                f'parentheses: {", ".join(few)}. Add images under these names; what the context lacks may also be '
                'taken out of decode_head.context.'
            )

    def _key(self, phrase: str, name: str) -> str:
        return json.dumps([phrase, self._identity(name)])

    def _identity(self, name: str) -> list[str]:
        if name not in self._identities:
            self._identities[name] = self.references.identity(name, self.head.images_per_class)
        return self._identities[name]

    def _complete(self, wanted: Mapping[str, tuple[str, Tensor]], context: Sequence[Tensor]) -> dict[str, Tensor]:
        """The vectors of names and texts by key, from the cache where they are in it."""

        def find(keys: Sequence[str]) -> Tensor:
            return torch.stack([self._vector(*wanted[key], context) for key in keys])

        if not wanted:
            return {}
        keys = list(wanted)
        found = find(keys) if self.cache is None else self.cache.complete(keys, find)
        return dict(zip(keys, found.to(self.device), strict=True))

    def _vector(self, name: str, text: Tensor, context: Sequence[Tensor]) -> Tensor:
        """(C,), from the images of a name."""
        head = self.head
        features, dense = self.look(self.references.images(name, head.images_per_class))
        weights = patch_weights(features, dense, text, context, head.scale)
        return reference(seeds(features, weights, head.official_slices))

    def look(self, images: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
        """What the companion (N, C, h, w) and the decoder (N, D, h', w') see of images (H, W, 3), float32."""
        head, tower, decoder = self.head, self.record.tower, self.head.decoder
        mean, std = (torch.tensor(values, device=self.device).view(3, 1, 1) for values in (tower.mean, tower.std))
        found = []
        for first in range(0, len(images), _BATCH):
            squares = [to_square(image, head.image_size) for image in images[first : first + _BATCH]]
            batch = (torch.stack(squares).to(self.device) - mean) / std
            record = tower.record(batch, decoder.needs).read_by(self.record.companions)
            tokens = decoder.run(record, head.between_passes)[0]
            found.append((record.companion(head.companion).map.float(), tokens.map.float()))
        features, dense = zip(*found, strict=True)
        return torch.cat(features), torch.cat(dense)

    def _cache(self) -> TextBankCache | None:
        """Of vectors that depend on more than phrases and images; None where a network has no weights of its own."""
        head, network = self.head, self.record.companions[self.head.companion]
        text, weights, most = head.text_encoder.identity(), network.pretrained, head.images_per_class
        if text is None or weights is None:
            return None
        parts = (self.record.tower, *head.decoder.modules(), network)
        key = dict(
            version=_VERSION,
            text=text,
            templates=list(head.templates),
            networks=[_settings(part) for part in parts],
            encoder=weights.identity(),
            context=[[name, self._identity(name)] for name in head.context],
            settings=[head.scale, most, head.image_size, head.official_slices],
        )
        return TextBankCache(cache_root() / 'references', key)


def ready_bank(references: VectorReferences, subjects: Sequence[Subject]) -> Tensor:
    """(subjects, C), unit norm, out of ready vectors.

    Raises:
        MissingFileError: Some classes have none; the message lists them all.
    """
    found, missing = [], []
    for subject in subjects:
        names = [*subject.names, *(_SAME[name] for name in subject.names if name in _SAME)]
        vectors = [references.vectors[name] for name in names if name in references.vectors]
        found += vectors[:1]
        missing += [] if vectors else [names[0]]
    if missing:
        raise MissingFileError(
            f'{references.where} has no vectors of {len(missing)} classes: {", ".join(missing)}. It has those of: '
            f'{", ".join(sorted(references.vectors))}.'
        )
    return F.normalize(torch.stack(found), dim=1)


def subjects_of(
    names: Sequence[str], classes: Sequence[Sequence[str]], background_index: int | None
) -> tuple[list[Subject], list[int]]:
    """What has a vector, and which of it each query belongs to.

    Args:
        names: Of the classes.
        classes: The phrases of each.
        background_index: The class whose phrases have vectors of their own.
    """
    subjects: list[Subject] = []
    places: list[int] = []
    for number, (name, phrases) in enumerate(zip(names, classes, strict=True)):
        if number == background_index:
            alone = [Subject(phrase, (plain(phrase),)) for phrase in phrases]
            places += range(len(subjects), len(subjects) + len(alone))
            subjects += alone
        else:
            places += [len(subjects)] * len(phrases)
            subjects.append(Subject(phrases[0], tuple(dict.fromkeys(map(plain, (name, *phrases))))))
    return subjects, places


def _settings(module: nn.Module) -> list[Any]:
    """The type of a module, and its plain values."""
    kinds = (bool, int, float, str, tuple)
    values = {key: value for key, value in vars(module).items() if isinstance(value, kinds) and key[0] != '_'}
    return [type(module).__name__, values]
