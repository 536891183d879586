"""Cosine similarity of dense features with a bank of encoded phrases."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from mmseg.models.utils import resize
from mmseg.registry import MODELS
from torch import Tensor
from torch.nn import functional as F

from ...errors import ConfigError
from ..clip import ClipSource
from ..image.postprocess import best_of_class
from ..text import TextBankCache, Vocabulary, encode_phrases, load_templates, load_vocabulary, warn_of_scripts
from ..text.class_names import dataset_meta
from ..tokens import Tokens
from .base import Head

if TYPE_CHECKING:
    from ..image.scores import MapScores, PixelScores

_ENCODING = threading.RLock()  # one text tower serves all threads


@MODELS.register_module()
class TextSimilarityHead(Head):
    """Scores of every phrase at every patch: the cosine between its features and the phrase's vector.

    The bank is made at first use: read from the disk cache, and what is not there is encoded on the device of
    the head, each distinct phrase once; then the text tower is dropped unless `clip.keep_text`. Scores are
    float32 whatever the tower's precision.

    Args:
        vocabulary: See `load_vocabulary`.
        templates: See `load_templates`.
        class_names: What classes are called in tables and pictures: a list, or the name of a registered
            dataset class, whose names and colours are taken; None for each class's first phrase.
        background_index: The class that unsure pixels fall to; None where there is none.
        clip: See `ClipConfig`; inside an `SCLIPSegmentor` the segmentor gives it.
        init_cfg: Kept for MMEngine's interface.

    Attributes:
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
        vocabulary: str | Path | Vocabulary | Sequence | None = None,
        templates: str | Sequence[str] = 'openai_imagenet',
        class_names: str | Sequence[str] | None = None,
        background_index: int | None = None,
        clip: Mapping | ClipSource | None = None,
        init_cfg: Mapping | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.source = ClipSource.of(clip, 'TextSimilarityHead')
        self.templates = load_templates(templates)
        self.register_buffer('text_bank', None, persistent=False)
        self._text_tower: list[Any] = []  # in a list, so that it is no sub-module
        self.set_vocabulary(vocabulary, class_names, background_index)

    def set_vocabulary(
        self,
        vocabulary: str | Path | Vocabulary | Sequence | None,
        class_names: str | Sequence[str] | None = None,
        background_index: int | None = None,
        folder: Path | None = None,
    ) -> None:
        """Change the classes; the new phrases are encoded at the next use.

        Args:
            vocabulary: As in the class.
            class_names: As in the class.
            background_index: As in the class.
            folder: Where a relative path of a vocabulary is looked for before the current folder.

        Raises:
            ConfigError: `class_names` has another length than the vocabulary, or the background is no class.
        """
        vocabulary = load_vocabulary(vocabulary, [] if folder is None else [folder])
        if background_index is not None and background_index not in range(vocabulary.num_classes):
            raise ConfigError(
                f'decode_head.background_index is {background_index!r}, but the vocabulary '
                f'{vocabulary.name} has the classes 0 to {vocabulary.num_classes - 1}.'
            )
        meta = dataset_meta(vocabulary, class_names, background_index)
        self.vocabulary = vocabulary
        self.dataset_meta = meta
        self.background_index = background_index
        self.num_classes = vocabulary.num_classes
        self.out_channels = len(vocabulary.queries)
        position = {phrase: index for index, phrase in enumerate(vocabulary.distinct)}
        self._phrase_of_query = [position[phrase] for phrase in vocabulary.queries]
        self._query_of_phrase = [self._phrase_of_query.index(index) for index in range(len(position))]
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
            self.text_bank = self.encode(self.vocabulary.distinct, device)
        return self.text_bank.to(device, torch.float32)

    def encode(self, phrases: Sequence[str], device: torch.device) -> Tensor:
        """(P, D), unit norm, on `device`: phrases in the head's templates, from the cache where they are in it.

        A text tower gets memory only for phrases that are not.
        """
        if self.source.reads_english:
            warn_of_scripts(phrases)
        # A later training may need them, so no inference mode.
        with _ENCODING, torch.inference_mode(False), torch.autocast(device.type, enabled=False):
            identity, encode = self.source.text_identity(), partial(self._encode_phrases, device)
            if identity is None:
                bank = encode(phrases)
            else:
                cache = TextBankCache(self.source.text_cache(), dict(clip=identity, templates=self.templates))
                bank = cache.complete(phrases, encode)
            if not self.source.config.keep_text:
                self._text_tower.clear()
            self.source.release()
            return bank.to(device)

    def _encode_phrases(self, device: torch.device, phrases: Sequence[str]) -> Tensor:
        """(P, D), by the text tower, which is built where it is not there yet."""
        tokenizer = self.source.tokenizer()  # first, since it may need what is not installed
        if not self._text_tower:
            self._text_tower.append(self.source.text_tower().to(device))
        tower = self._text_tower[0].to(device)
        return encode_phrases(tower, tokenizer, phrases, self.templates, tower.context_length)

    def forward(self, features: Tokens | tuple[Tensor] | Tensor) -> Tensor:
        """Scores of every query, here their cosines.

        Args:
            features: Tokens, a map (B, D, h, w), or a backbone's tuple whose last entry is one.

        Returns:
            (B, Q, h, w), float32.
        """
        cosines = self.cosines(features)
        if self.phrase_of_query is None:
            return cosines
        return cosines[:, self._phrase_of_query]  # equal phrases have equal numbers, to the last bit

    def cosines(self, features: Tokens | tuple[Tensor] | Tensor, bank: Tensor | None = None) -> Tensor:
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

    def pixel_rule(self, scores: PixelScores | MapScores) -> Callable[[Tensor], Tensor] | None:
        """What becomes of the scores at the pixels before they are class scores.

        Args:
            scores: Of one image and its Q queries, behind the refinements of cosines.

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

    def predict(
        self, features: Tokens | tuple[Tensor] | Tensor, batch_img_metas: Sequence[Mapping], test_cfg: Mapping
    ) -> Tensor:
        """Cosines, enlarged.

        Args:
            features: As in `forward`.
            batch_img_metas: `img_shape` of the window in slide mode (MMSeg's loop sets it); `ori_shape` or
                `img_shape` in whole mode.
            test_cfg: `mode`, and `whole_resize`: 'direct' goes from patches straight to `ori_shape`.

        Returns:
            (B, Q, H, W), float32.
        """
        direct = test_cfg.get('mode') == 'whole' and test_cfg.get('whole_resize', 'direct') == 'direct'
        return self.enlarge(self(features), batch_img_metas[0]['ori_shape' if direct else 'img_shape'][:2])

    def enlarge(self, scores: Tensor, size: Sequence[int]) -> Tensor:
        """Bilinear resizing of (B, K, h, w) to `size` (H, W)."""
        return resize(scores, size=tuple(size), mode='bilinear', align_corners=self.align_corners, warning=False)

    def loss(
        self, features: Tokens | tuple[Tensor] | Tensor, batch_data_samples: Sequence, train_cfg: Mapping | None
    ) -> dict[str, Tensor]:
        """Cross-entropy on the class scores (softmax over queries, the best of each class).

        Args:
            features: As in `forward`.
            batch_data_samples: With `gt_sem_seg`; 255 and negative labels are ignored.
            train_cfg: `logit_scale`, 40 where it is missing.

        Returns:
            `loss_ce`, and `acc_seg` in percent.
        """
        scale = (train_cfg or {}).get('logit_scale', 40)
        losses: list[Tensor] = []
        right: Any = 0
        counted: Any = 0
        for scores, sample in zip(self(features), batch_data_samples, strict=True):
            truth = sample.gt_sem_seg.data.squeeze(0).long().to(scores.device)  # (H, W)
            log_query = (self.enlarge(scores[None], truth.shape)[0] * scale).log_softmax(dim=0)
            log_class = best_of_class(log_query, self.vocabulary.sizes)
            known = (truth != 255) & (truth >= 0)
            # A crop without any known pixel counts nothing; the mean of none would be nan.
            total = F.nll_loss(log_class[None], truth.where(known, 255)[None], ignore_index=255, reduction='sum')
            losses.append(total / known.sum().clamp(min=1))
            right += (log_class.argmax(dim=0) == truth)[known].sum()
            counted += known.sum()
        return dict(loss_ce=torch.stack(losses).mean(), acc_seg=100 * right / max(counted, 1))
