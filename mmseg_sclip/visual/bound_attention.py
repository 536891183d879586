"""Attentions bound to the tower of a model, which goes on using its own."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from ..checks import build_strategy
from ..errors import ConfigError
from ..models.attention import Attention
from ..models.decoders import Decoder
from ..models.record import BlockInput, Feedback, Record
from ..models.segmentors.assembly import check_companions
from ..models.towers import ImageTower
from .attention_names import describe_attention, parse_attention

OWN = 'config'  # the word for the attention of the config


@dataclass
class BoundAttention:
    """An attention that is bound to the tower of a model.

    Attributes:
        label: What pictures call it.
        attention: The instance.
        decoder: A decoder with this attention, for the scores between several passes; None if the model's decoder
            has no attention that could be exchanged.
        own: Whether attention and decoder are the model's own.
    """

    label: str
    attention: Attention
    decoder: Decoder | None
    own: bool = False

    def needs(self, tower: ImageTower) -> frozenset[int]:
        """The block outputs that `weights` reads, apart from the input of the block itself."""
        needs = tower.block_numbers(self.attention.needs)
        return needs | self.decoder.needs if self._decodes else needs

    @property
    def all_windows(self) -> bool:
        """Whether the record must have all windows of the image."""
        return self.attention.all_windows or (self._decodes and self.decoder.all_windows)

    @property
    def _decodes(self) -> bool:
        return self.own or self.attention.passes > 1

    def feedback(self, model: nn.Module, record: Record) -> Feedback | None:
        """What the last pass of a segmentor with this attention looks at; None where there is one pass."""
        if self.attention.passes == 1:
            return None
        return self.decoder.run(record, model.decode_head.between_passes)[1]

    def block_input(self, number: int, record: Record, feedback: Feedback | None) -> BlockInput:
        """What it looks at in block `number`.

        The model's own attention gets what its decoder gives it; any other what it takes itself, most of them the
        recorded stream.
        """
        giver = self.decoder if self.own else self.attention
        return giver.block_input(number, record, feedback)

    def weights(self, b: BlockInput) -> Tensor:
        """The attention map (B, heads or 1, N, N) of what it looks at.

        Raises:
            ValueError: The attention returns another shape.
        """
        weights, (batch, heads, tokens, _) = self.attention.weights(b), b.v.shape
        if weights.shape not in ((batch, heads, tokens, tokens), (batch, 1, tokens, tokens)):
            raise ValueError(
                f'{self.label}.weights returned a tensor {tuple(weights.shape)}; it must be (B, heads or 1, N, N), '
                f'here ({batch}, {heads} or 1, {tokens}, {tokens}).'
            )
        return weights


def bind_attention(
    model: nn.Module, entry: str | Mapping | Attention, model_config: Mapping | None = None
) -> BoundAttention:
    """Build an attention and bind it to a model, which is not changed.

    Args:
        model: An `SCLIPSegmentor`.
        entry: What `parse_attention` reads, the word 'config' for the model's own attention with what it has
            learned, a config, or an instance that is not bound yet.
        model_config: Of the model; the label of its own attention takes the parameters from it.

    Raises:
        ConfigError: The attention is unknown or its parameters are wrong, it reads a second network that the model does
            not have, or it wants several passes that the model's decoder cannot make with it.
    """
    own = getattr(model.backbone.decoder, 'attention', None)
    if entry == OWN:
        if not isinstance(own, Attention):
            raise ConfigError(
                f"The config's decoder, {type(model.backbone.decoder).__name__}, has no attention of its own to show. "
                'Name one, such as CLIP.'
            )
        return BoundAttention(_own_label(own, model_config), own, model.backbone.decoder, own=True)
    config = parse_attention(entry) if isinstance(entry, str) else entry
    label = describe_attention(config) if isinstance(config, Mapping) else type(config).__name__
    attention = build_strategy('The attention', config, Attention)
    check_companions([attention], model.companions)
    tower, decoder = model.backbone.tower, None
    if isinstance(own, Attention):
        # A copy of the model's decoder, since it may bind more than its attention.
        decoder = copy.deepcopy(model.backbone.decoder)
        decoder.attention = attention
        decoder.bind(tower)
    else:
        attention.bind(tower)
    if attention.passes > 1 and (decoder is None or not isinstance(attention, decoder.attends)):
        raise ConfigError(
            f'{label} wants {attention.passes} passes with scores in between, which the decoder of the config, '
            f'{type(model.backbone.decoder).__name__}, cannot make with it. Take a config with another decoder, such '
            'as LastBlock.'
        )
    device = next(tower.parameters()).device
    (attention if decoder is None else decoder).to(device).eval()
    return BoundAttention(label, attention, decoder)


def _own_label(own: Attention, model_config: Mapping | None) -> str:
    try:
        return describe_attention(model_config['backbone']['decoder']['attention'])
    except (KeyError, TypeError):  # the backbone's default
        return type(own).__name__
