"""What MMSegmentation and MMEngine call on a segmentor, for one whose features and words come from two towers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from mmengine.logging import print_log
from mmseg.models import EncoderDecoder
from mmseg.structures import SegDataSample
from torch import Tensor

from ...errors import ConfigError
from ..image.windows import Place
from ..record import Record, Source
from ..tokens import Tokens
from .checkpoints import check_checkpoint

Images = Tensor | Sequence[Tensor]


class TwoTowerSegmentor(EncoderDecoder):
    """An `EncoderDecoder` whose classes are named by a vocabulary, and whose images may come as a list of any sizes.

    Attributes:
        needs: Block outputs that its parts read together.
        all_windows: Whether a part must see all windows of an image together.
    """

    needs: frozenset[int]
    all_windows: bool

    @property
    def dataset_meta(self) -> dict[str, list]:
        """MMSeg's `classes` and `palette`, of the vocabulary; see `TextSimilarityHead`."""
        return self.decode_head.dataset_meta

    @dataset_meta.setter
    def dataset_meta(self, meta: Mapping | None) -> None:
        # MMSeg's inferencer sets Cityscapes' names where there is no checkpoint.
        meta = meta or {}
        if list(meta.get('classes', ())) != self.decode_head.dataset_meta['classes']:
            print_log(
                'Classes are named by the vocabulary (decode_head.class_names, or set_vocabulary); other names that '
                'were set as dataset_meta are not taken over.',
                logger='current',
            )
        elif meta.get('palette') is not None:
            self.decode_head.dataset_meta = {**self.decode_head.dataset_meta, 'palette': list(meta['palette'])}

    def _load_from_state_dict(self, state_dict: Mapping, prefix: str, *args) -> None:
        """Refuse a checkpoint that does not fit this model; MMEngine would only log it."""
        if not prefix:
            check_checkpoint(self, state_dict)
        super()._load_from_state_dict(state_dict, prefix, *args)

    @property
    def normaliser(self) -> Any:
        """What normalises the images, with its `mean` and `std`; the tower where the preprocessor does not say."""
        preprocessor = self.data_preprocessor
        says = hasattr(preprocessor, 'mean') and hasattr(preprocessor, 'std')
        return preprocessor if says else self.backbone.tower

    def record(
        self,
        images: Tensor,
        needs: Iterable[int] | None = None,
        places: Sequence[Place] = (),
        sources: Sequence[Source] = (),
    ) -> Record:
        """The record of windows (B, 3, H, W), which the model's own preprocessor has normalised.

        Args:
            images: The windows.
            needs: Block outputs to keep, by default those that its parts read.
            places: See `Record`.
            sources: See `Record`.
        """
        record = self.backbone.record(images, self.needs if needs is None else needs, places, sources)
        record.normaliser = self.normaliser
        return record

    def encode(self, images: Tensor) -> Tokens:
        """Tokens of (B, 3, H, W), all passes of the decoder over one run of the tower."""
        record = self.record(images).read_by(self.companions)
        return self.backbone.decoder.run(record, self.decode_head.between_passes)[0]

    def extract_feat(self, inputs: Images) -> tuple[Tensor] | list[tuple[Tensor]]:
        """Dense features: a tuple with one map (B, D, h, w), or a list of such tuples for a list of images."""
        if isinstance(inputs, Tensor):
            return (self.encode(inputs).map,)
        return [(self.encode(image[None]).map,) for image in inputs]

    def encode_decode(self, inputs: Tensor, batch_img_metas: list[dict]) -> Tensor:
        """Scores (B, Q, H, W) of (B, 3, H, W), enlarged as `TextSimilarityHead.predict` says.

        Raises:
            ConfigError: A part works on all windows of an image, but MMSegmentation's own loop gives them one by one.
        """
        if self.all_windows:
            raise ConfigError(
                'encode_decode sees the windows of an image one by one, but a part of the model (model.stitch, '
                'model.propagation, or an attention with a mean over the image) works on all of them together. Use '
                'predict, or score.'
            )
        return self.decode_head.predict(self.encode(inputs), batch_img_metas, self.test_cfg)

    def _forward(self, inputs: Images, data_samples: Sequence[SegDataSample] | None = None) -> Tensor | list[Tensor]:
        """Cosines (B, Q, h, w) at patch resolution; a list of (1, Q, h, w) for a list of images."""
        if isinstance(inputs, Tensor):
            return self.decode_head(self.encode(inputs))
        return [self.decode_head(self.encode(image[None])) for image in inputs]

    def loss(self, inputs: Images, data_samples: Sequence[SegDataSample]) -> dict[str, Tensor]:
        """The head's loss, averaged over the images."""
        each = [
            self.decode_head.loss(self.encode(image[None]), [sample], self.train_cfg)
            for image, sample in zip(inputs, data_samples, strict=True)
        ]
        return {f'decode.{name}': torch.stack([losses[name] for losses in each]).mean() for name in each[0]}
