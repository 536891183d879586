"""CLIP's Vision Transformer as an MMSeg backbone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext

import torch
from mmengine.model import BaseModule
from mmseg.registry import MODELS
from torch import Tensor

from ...checks import build_strategy, check_choice, check_switch
from ...errors import ConfigError
from ..clip import POSITION_RULES
from ..decoders.base import Decoder
from ..passes import run_passes
from ..streams import Feedback, Memory, Tokens
from ..towers.source import TowerSource, build_source

_SCLIP = dict(type='LastBlock', attention=dict(type='CorrelativeSelfAttention'))


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
        positions: str = 'scale',
        out_cls: bool = False,
        init_cfg: Mapping | None = None,
    ) -> None:
        super().__init__(init_cfg)
        check_switch('backbone.out_cls', out_cls)
        check_choice('backbone.positions', positions, POSITION_RULES)
        self.decoder = build_strategy('backbone.decoder', _SCLIP if decoder is None else decoder, Decoder)
        source = build_source(clip, 'CLIPVisionTransformer')
        self.tower = source.image_tower(positions)
        self.precision = source.precision
        self.decoder.bind(self.tower)
        self.out_cls = out_cls

    @property
    def passes(self) -> int:
        """How often `decode` runs over one record."""
        return self.decoder.passes

    def record(self, images: Tensor, needs: Iterable[int] | None = None) -> Memory:
        """Run the untouched blocks over (B, 3, H, W) and keep outputs, by default those that the decoder needs."""
        with self._autocast(images.device):
            return self.tower.record(images, self.decoder.needs if needs is None else needs)

    def decode(self, memory: Memory, feedback: Feedback | None = None) -> Tokens:
        """One pass of the decoder over a record."""
        with self._autocast(next(iter(memory.values())).device):
            return self.decoder(self.tower, memory, feedback)

    def encode(self, images: Tensor, score: Callable[[Tokens], Tensor], memory: Memory | None = None) -> Tokens:
        """All passes of the decoder over one run of the tower.

        Args:
            images: (B, 3, H, W), normalised.
            score: From tokens to scores (B, Q, h, w), between passes.
            memory: A record of these images with all that the decoder needs; None makes one.
        """
        memory = self.record(images) if memory is None else memory
        with self._autocast(images.device):
            return run_passes(self.decoder, self.tower, memory, score)[0]

    def _autocast(self, device: torch.device) -> AbstractContextManager:
        """The caller's autocast for float32 weights; none for weights that have a lower precision already."""
        return nullcontext() if self.precision == 'fp32' else torch.autocast(device.type, enabled=False)

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
        tokens = self.decode(self.record(images))
        return ((tokens.map, tokens.cls),) if self.out_cls else (tokens.map,)
