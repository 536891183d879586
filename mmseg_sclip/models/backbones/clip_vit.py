"""CLIP's Vision Transformer as an MMSeg backbone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated

from mmengine.model import BaseModule
from mmseg.registry import MODELS
from torch import Tensor

from ...checks import build_strategy
from ...errors import ConfigError
from ...rules import OneOf
from ..clip import POSITION_RULES
from ..decoders.base import Decoder
from ..image.windows import Place
from ..record import Record, Source
from ..tokens import Tokens
from ..towers.source import TowerSource, build_source

_SCLIP = dict(type='LastBlock', attention=dict(type='CorrelativeSelfAttention'))


def _no_scores(tokens: Tokens) -> Tensor:
    raise AssertionError('Only a decoder of several passes asks for scores.')


@MODELS.register_module()
class CLIPVisionTransformer(BaseModule):
    """CLIP's image tower, its last block(s) rebuilt by a decoder, as a dense feature extractor.

    Called on (B, 3, H, W) it returns a tuple with one map (B, D, h, w) in the joint space of image and
    text, projected but not normalised, with h and w the sides divided by the patch size, floored. Its
    weights are frozen. Autocast, such as of MMEngine's `TestLoop(fp16=True)`, acts on float32 weights; with
    `clip.precision` 'fp16' or 'bf16' it is switched off, since weights and products have that type already.

    Args:
        clip: See `ClipConfig`, or another `TowerSource`; inside an `SCLIPSegmentor` the segmentor gives it.
        decoder: Config of a `Decoder`; SCLIP's where it is left out.
        positions: How positions are fitted to grids other than the native one: 'scale' is SCLIP's rule;
            'size', 'size_antialias' and 'bilinear' are those of other methods.
        out_cls: Return ((map, cls),) with the class token (B, D), as mmpretrain's backbones do.
        init_cfg: Kept for MMEngine's interface.

    Raises:
        ConfigError: The config is wrong; see the message.
    """

    def __init__(
        self,
        clip: Mapping | TowerSource | None = None,
        decoder: Mapping | None = None,
        positions: Annotated[str, OneOf(POSITION_RULES)] = 'scale',
        out_cls: bool = False,
        init_cfg: Mapping | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.decoder = build_strategy('backbone.decoder', _SCLIP if decoder is None else decoder, Decoder)
        self.tower = build_source(clip, 'CLIPVisionTransformer').image_tower(positions)
        self.decoder.bind(self.tower)
        self.out_cls = out_cls

    @property
    def passes(self) -> int:
        """How often the decoder runs over one record."""
        return self.decoder.passes

    def record(
        self,
        images: Tensor,
        needs: Iterable[int] | None = None,
        places: Sequence[Place] = (),
        sources: Sequence[Source] = (),
    ) -> Record:
        """Run the untouched blocks over (B, 3, H, W) and keep outputs, by default those that the decoder needs."""
        return self.tower.record(images, self.decoder.needs if needs is None else needs, places, sources)

    def encode(self, images: Tensor, score: Callable[[Tokens], Tensor] = _no_scores) -> Tokens:
        """All passes of the decoder over one run of the tower.

        Args:
            images: (B, 3, H, W), normalised.
            score: From tokens to scores (B, Q, h, w), between passes.
        """
        return self.decoder.run(self.record(images), score)[0]

    def forward(self, images: Tensor) -> tuple[Tensor] | tuple[tuple[Tensor, Tensor | None]]:
        """Dense features of (B, 3, H, W), normalised images in RGB.

        Raises:
            ConfigError: The decoder wants several passes, for which scores are needed between them.
        """
        if self.passes > 1:
            raise ConfigError(
                f'The decoder wants {self.passes} passes with scores in between, which a backbone alone '
                'does not have. Use it inside an SCLIPSegmentor.'
            )
        tokens = self.encode(images)
        return ((tokens.map, tokens.cls),) if self.out_cls else (tokens.map,)
