"""Cosine similarity of dense features with a bank of encoded phrases."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from mmseg.models.utils import resize
from mmseg.registry import MODELS
from torch import Tensor
from torch.nn import functional as F

from ..text import Vocabulary, load_templates, load_vocabulary
from ..text.class_names import dataset_meta
from ..tokens import Tokens
from ..towers.source import TowerSource, build_source
from .base import Head
from .loss import class_loss

if TYPE_CHECKING:
    from ..image.scores import MapScores, PixelScores

Features = Tokens | tuple[Tensor] | Tensor  # a map (B, D, h, w), or a backbone's tuple whose last entry is one
Words = str | Path | Vocabulary | Sequence | None


@MODELS.register_module()
class TextSimilarityHead(Head):
    """Scores of every phrase at every patch: the cosine between its features and the phrase's vector.

    The bank of vectors is made at first use, on the device of the features. Scores are float32 whatever the tower's
    precision.

    Args:
        vocabulary: See `load_vocabulary`.
        templates: See `load_templates`.
        class_names: What classes are called in tables and pictures: a list, or the name of a registered
            dataset class, whose names and colours are taken; None for each class's first phrase.
        background_index: The class that unsure pixels fall to; None where there is none.
        clip: Where the text encoder comes from, see `build_source`; inside an `SCLIPSegmentor` the segmentor gives it.
        init_cfg: Kept for MMEngine's interface.

    Attributes:
        text_encoder: The `TextEncoder`; segmentors of one source share it.
        num_classes: C, from the vocabulary.
        out_channels: Q, the number of queries.
        text_bank: (distinct phrases, D), unit norm; None until the phrases are encoded. A matrix may be set.
        align_corners: False, for every resizing of scores.
        gives_class_scores: Whether the scores are class scores already. Of others `test_cfg.logit_scale` makes
            probabilities of the queries; for these it must be None.
        dataset_meta: `classes` and `palette`.

    Raises:
        ConfigError: The config is wrong; see the message.
    """

    align_corners = False
    gives_class_scores = False
    text_bank: Tensor | None

    def __init__(
        self,
        vocabulary: Words = None,
        templates: str | Sequence[str] = 'openai_imagenet',
        class_names: str | Sequence[str] | None = None,
        background_index: int | None = None,
        clip: Mapping | TowerSource | None = None,
        init_cfg: Mapping | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.text_encoder = build_source(clip, 'TextSimilarityHead').text_encoder()
        self.templates = load_templates(templates)
        self.register_buffer('text_bank', None, persistent=False)
        self.set_vocabulary(vocabulary, class_names, background_index)

    def set_vocabulary(
        self,
        vocabulary: Words,
        class_names: str | Sequence[str] | None = None,
        background_index: int | None = None,
        folder: Path | None = None,
    ) -> None:
        """Change the classes; the new phrases are encoded at the next use. Arguments and errors as in the class.

        Args:
            vocabulary: As in the class.
            class_names: As in the class.
            background_index: As in the class.
            folder: Where a relative path of a vocabulary is looked for before the current folder.
        """
        vocabulary = load_vocabulary(vocabulary, [] if folder is None else [folder])
        self.dataset_meta = dataset_meta(vocabulary, class_names, background_index)
        self.vocabulary = vocabulary
        self.background_index = background_index
        self.num_classes = vocabulary.num_classes
        self.out_channels = len(vocabulary.queries)
        place = {phrase: index for index, phrase in enumerate(vocabulary.distinct)}
        self._phrase_of_query = [place[phrase] for phrase in vocabulary.queries]
        self._query_of_phrase = [self._phrase_of_query.index(index) for index in range(len(place))]
        self.text_bank = None

    def with_vocabulary(self, *args, **kwargs) -> TextSimilarityHead:
        """A head with words of its own that shares everything else; arguments as in `set_vocabulary`."""
        head = copy.copy(self)
        head._buffers = dict(self._buffers)
        head.set_vocabulary(*args, **kwargs)
        return head

    def encode_vocabulary(self, device: torch.device) -> Tensor:
        """The bank (distinct phrases, D), unit norm, float32; encoded on `device` where it is not yet."""
        if self.text_bank is None:
            self.text_bank = self.text_encoder.encode(self.vocabulary.distinct, self.templates, device)
        return self.text_bank.to(device, torch.float32)

    def forward(self, features: Features) -> Tensor:
        """Scores of every query, here their cosines: (B, Q, h, w), float32."""
        cosines = self.cosines(features)
        if self.phrase_of_query is None:
            return cosines
        return cosines[:, self._phrase_of_query]  # equal phrases have equal numbers, to the last bit

    def cosines(self, features: Features, bank: Tensor | None = None) -> Tensor:
        """Cosines (B, P, h, w), float32, with the unit vectors (P, D) of a bank, by default the distinct phrases'."""
        if isinstance(features, Tokens):
            features = features.map
        elif isinstance(features, (tuple, list)):
            features = features[-1]
        bank = self.encode_vocabulary(features.device) if bank is None else bank.to(features.device, torch.float32)
        with torch.autocast(features.device.type, enabled=False):
            return torch.einsum('bdhw,pd->bphw', F.normalize(features.float(), dim=1), bank)

    def between_passes(self, tokens: Tokens) -> Tensor:
        """The scores (B, Q, h, w) that a decoder of several passes is told between them."""
        return self(tokens)

    def factors(self, tokens: Tokens) -> tuple[Tensor, Tensor] | None:
        """The scores as sums of fewer maps, where a head has such; the segmentor then never holds those of phrases.

        Returns:
            Maps (B, K, h, w), not negative, and their weights (B, K, distinct phrases), whose products are the scores
            of `distinct`; None for none.
        """

    def pixel_rule(self, scores: PixelScores | MapScores) -> Callable[[Tensor], Tensor] | None:
        """What becomes of the scores at the pixels before they are class scores.

        Args:
            scores: Of one image and its Q queries, after the refinements of cosines.

        Returns:
            A function of scores (Q, rows, W) that looks at each pixel alone, for any rows of the image; None where
            nothing changes.
        """

    @property
    def needs_whole_image(self) -> bool:
        """Whether scores of a window depend on what is seen of the rest of the image, so that windows are refused."""
        return False

    def score_bank(self, device: torch.device) -> Tensor:
        """The text of each map of scores that the segmentor gets, unit norm: (P, D), of the distinct phrases."""
        return self.encode_vocabulary(device)

    @property
    def phrase_of_query(self) -> Tensor | None:
        """(Q,): which distinct phrase each query is; None where no phrase stands for two classes."""
        return None if len(self._query_of_phrase) == self.out_channels else torch.tensor(self._phrase_of_query)

    def distinct(self, scores: Tensor) -> Tensor:
        """Scores of each distinct phrase once: (B, Q, ...) to (B, distinct phrases, ...)."""
        return scores if self.phrase_of_query is None else scores[:, self._query_of_phrase]

    def predict(self, features: Features, batch_img_metas: Sequence[Mapping], test_cfg: Mapping) -> Tensor:
        """Scores (B, Q, H, W) at `img_shape`; in whole mode at `ori_shape`, unless `whole_resize` is 'input'."""
        direct = test_cfg.get('mode') == 'whole' and test_cfg.get('whole_resize', 'direct') == 'direct'
        return self.enlarge(self(features), batch_img_metas[0]['ori_shape' if direct else 'img_shape'][:2])

    def enlarge(self, scores: Tensor, size: Sequence[int]) -> Tensor:
        """Bilinear resizing of (B, K, h, w) to `size` (H, W)."""
        return resize(scores, size=tuple(size), mode='bilinear', align_corners=self.align_corners, warning=False)

    def loss(self, features: Features, batch_data_samples: Sequence, train_cfg: Mapping | None) -> dict[str, Tensor]:
        """See `class_loss`; `train_cfg` has its `logit_scale`, 40 where it is missing."""
        return class_loss(self, self(features), batch_data_samples, (train_cfg or {}).get('logit_scale', 40))
