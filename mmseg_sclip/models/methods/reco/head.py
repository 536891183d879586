"""ReCo's head: the product of two sigmoids, of a reference vector and of a class's words (ReCo, NeurIPS 2022)."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
from mmseg.registry import MODELS
from torch import Tensor
from torch.nn import functional as F

from ....errors import ConfigError
from ....rules import AtLeast, Positive
from ...decoders.base import Decoder
from ...heads.maps import MapHead
from ...precision import without_autocast
from ...pretrained import Pretrained
from ...record import Record
from ...tokens import Tokens
from .finding import ReferenceFinder, ready_bank, subjects_of
from .place import place_of
from .references import VectorReferences, load_references, plain

_LOCK = threading.RLock()  # models of one network search in one thread at a time


@MODELS.register_module()
class RecoHead(MapHead):
    """ReCo's scores of every class at every pixel: sigmoid(u(x) r_c) times sigmoid(scale u'(x) t_c).

    u are features of a companion and u' those of the decoder, both unit vectors; each factor is enlarged to the pixels
    of the window for itself, after its sigmoid. t_c is the text of a phrase. r_c is what the reference images of a
    class have in common, see `seeds`; it is found when the class is first asked for, and kept in the cache for these
    images, weights and settings.

    A class has one reference vector for all its phrases. ReCo knows no background; here every phrase of the background
    is a class of its own. Images are looked for under the class's name and then under its phrases. A class that has
    the name of a context class, and 'vegetation' where there is 'tree', takes the vector of that one.

    Args:
        references: A folder, an index file, a file of ready vectors, or the config of a `References`; see
            `load_references`. None where `reference_bank` is set instead.
        companion: The companion whose features are compared with the references.
        scale: Multiplies the cosines with the text.
        context: Classes of which any image may show something. Their vectors are made first, each with the ones before
            it ruled out, and they are ruled out in the images of all other classes. They need images too.
        images_per_class: Of a class with more images, as many are looked at.
        least_images: Fewer images of a class are refused.
        image_size: Images are resized to this short side in pixels, and the middle square is cut out.
        official_slices: See `seeds`.
        **kwargs: Of `TextSimilarityHead`.

    Attributes:
        subjects: What has a reference vector: the classes, and the phrases of the background.
        reference_bank: (subjects, C), unit norm; None until the vectors are found. A matrix may be set.
    """

    at_pixels = True
    reference_bank: Tensor | None

    def __init__(
        self,
        references: Any = None,
        companion: str = 'encoder',
        scale: Annotated[float, Positive] = 10,
        context: Sequence[str] = ('tree', 'sky', 'building', 'road', 'person'),
        images_per_class: Annotated[int, AtLeast(1)] = 50,
        least_images: Annotated[int, AtLeast(1)] = 3,
        image_size: Annotated[int, AtLeast(16)] = 224,
        official_slices: bool = True,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        self.references = references
        self.companion = companion
        self.companions = frozenset({companion})
        self.scale = scale
        self.context = tuple(map(plain, context))
        self.images_per_class = images_per_class
        self.least_images = least_images
        self.image_size = image_size
        self.official_slices = official_slices
        self._decoders: tuple[Decoder, ...] = ()  # not a child, since it is the backbone's

    def set_vocabulary(self, *args, **kwargs) -> None:
        """See `TextSimilarityHead`; the references of the new classes are found at the next use."""
        super().set_vocabulary(*args, **kwargs)
        self.register_buffer('reference_bank', None, persistent=False)
        names, classes = self.dataset_meta['classes'], self.vocabulary.classes
        self.subjects, self._subject_of_query = subjects_of(names, classes, self.background_index)

    def check(self, decoder: Decoder) -> None:
        """See `Head`; the reference images run through the same decoder."""
        super().check(decoder)
        self._decoders = (decoder,)

    @classmethod
    def files(cls, config: Mapping[str, Any]) -> dict[str, Pretrained]:
        """See `Head`."""
        references = config.get('references')
        return {'references': place_of(references)} if isinstance(references, (str, Path)) else {}

    @property
    def decoder(self) -> Decoder:
        """That of the segmentor."""
        return self._decoders[0]

    def forward(self, features: Tokens) -> Tensor:
        """Scores (B, Q, H, W), float32, in 0..1, at the pixels of the windows.

        Args:
            features: Tokens with the record that they were made of.

        Raises:
            ConfigError: They have none, or there are no references.
            MissingFileError: There are not enough images of a class.
        """
        record = self.record_of(features)
        seen, size = record.companion(self.companion).map, record.images.shape[-2:]
        with without_autocast(seen.device):
            bank = self.encode_references(record)
            alike = torch.einsum('bchw,sc->bshw', F.normalize(seen.float(), dim=1), bank).sigmoid()
            named = (self.scale * self.cosines(features)).sigmoid()
            alike, named = self.enlarge(alike, size), self.enlarge(named, size)
            return alike[:, self._subject_of_query] * named[:, self._phrase_of_query]

    def encode_references(self, record: Record) -> Tensor:
        """The reference bank (subjects, C), float32, found with the networks of a record where it is not there yet."""
        device, width = record.images.device, record.companion(self.companion).map.shape[1]
        if device.type == 'meta':  # where only shapes are asked for
            return torch.empty(len(self.subjects), width, device=device)
        with _LOCK, torch.inference_mode(False), torch.no_grad():
            if self.reference_bank is None:
                references = load_references(self.references)
                if isinstance(references, VectorReferences):
                    self.reference_bank = ready_bank(references, self.subjects)
                else:
                    self.reference_bank = ReferenceFinder(self, references, record).bank()
            bank = self.reference_bank.to(device, torch.float32)
        if bank.shape[1] != width:
            raise ConfigError(
                f'The reference vectors have {bank.shape[1]} channels, but the features of the companion '
                f"'{self.companion}' have {width}. Give references of this network in decode_head.references."
            )
        return bank
