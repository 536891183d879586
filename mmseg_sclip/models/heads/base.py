"""The seam of the heads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmengine.model import BaseModule

from ...errors import ConfigError
from ..decoders.base import Decoder
from ..parts import Part
from ..pretrained import Pretrained
from ..record import Record
from ..tokens import Tokens


class Head(BaseModule, Part):
    """From the tokens of a decoder to scores of queries.

    Attributes:
        takes: The class of the tokens that it reads.
        needs_class_token: Whether it reads their class token.
        at_pixels: Whether its scores live at the pixels of a window; those of others live at its patches.
    """

    takes: type[Tokens] = Tokens
    needs_class_token: bool = False
    at_pixels: bool = False

    @classmethod
    def files(cls, config: Mapping[str, Any]) -> dict[str, Pretrained]:
        """What a head of this config reads from files, beside weights, by what `--weights NAME=FILE` calls it."""
        return {}

    def check(self, decoder: Decoder) -> None:
        """Refuse a decoder whose tokens it cannot read; called when the segmentor is built.

        Raises:
            ConfigError: It cannot.
        """
        ours, theirs = type(self).__name__, type(decoder).__name__
        if not issubclass(decoder.gives, self.takes):
            raise ConfigError(
                f'{ours} reads {self.takes.__name__}, but the decoder {theirs} gives {decoder.gives.__name__}. Name '
                f'another decoder in model.backbone.decoder, or another head in model.decode_head.'
            )
        if self.needs_class_token and not decoder.gives_class_token:
            raise ConfigError(
                f'{ours} reads the class token, which the decoder {theirs} does not give. Use another decoder, such as '
                'LastBlock, or a TextSimilarityHead.'
            )

    def record_of(self, features: Any) -> Record:
        """The record that tokens were made of.

        Raises:
            ConfigError: The features are not the tokens of a segmentor.
        """
        record = getattr(features, 'record', None)
        if record is None:
            raise ConfigError(
                f'{type(self).__name__} looks at the record of the image tower, which these features do not have. Use '
                'it inside an SCLIPSegmentor, whose `encode` gives tokens with their record.'
            )
        return record
