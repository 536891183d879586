"""TCL's released weights around OpenAI's CLIP."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from mmseg.registry import MODELS
from torch import Tensor

from ....compat import open_clip
from ...clip.fine_tuned import FineTunedClip
from ...clip.tower import VisionTower
from ...pretrained import Pretrained
from ...towers.released import RELEASED
from .masker import Masker

_MEAN, _STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)  # of ImageNet, also for the CLIP inside
_ENCODERS = ('clip_image_encoder.', 'clip_text_encoder.')
_IMAGE, _TEXT = _ENCODERS
# Beginnings of our names and of the file's, the longest first.
_NAMES = {
    'visual.ln_post.': f'{_IMAGE}clip_proj.ln.',
    'visual.proj': f'{_IMAGE}clip_proj.proj',
    'visual.': f'{_IMAGE}clip_visual.',
    'network.block.': 'masker.image_encoder.backbone.transformer.resblocks.{last}.',
    'network.stages.': 'masker.image_encoder.decoder.decoder.net.',
    'network.image_proj.': 'masker.image_encoder.decoder.image_proj.',
    'network.slope': 'masker.sim2mask.w',
    'network.offset': 'masker.sim2mask.b',
    '': _TEXT,
}


class TclTower(VisionTower):
    """CLIP's image tower with TCL's masker beside it.

    Args:
        visual: As in `VisionTower`.
        positions: As in `VisionTower`.
        masker: The trained network.
    """

    def __init__(self, visual: open_clip.transformer.VisionTransformer, positions: str, masker: Masker) -> None:
        super().__init__(visual, positions)
        self.masker = masker

    def run_whole(self, images: Tensor) -> Tensor:
        """See `ImageTower.run_whole`; with the masker."""
        record = super().run_whole(images)
        return self.masker(record[self.depth], record.grid)


@MODELS.register_module()
class TclSource(FineTunedClip):
    """TCL: OpenAI's CLIP and a trained decoder of masks (arXiv 2212.00785).

    Args:
        clip: The CLIP inside, see `FineTunedClip`; the released file is of 'ViT-B-16-quickgelu'.
        pretrained: As in `ReleasedSource`; None for the decoder before its training, which changes nothing.
    """

    release = Pretrained(
        what='TCL',
        setting='model.clip.pretrained',
        names=('tcl.pth',),
        published='https://github.com/kakaobrain/tcl/releases/tag/v1.0.0',
        licence='MIT',
    )
    ignored = ('tcli_loss.', 'tclf_loss.')

    def __init__(self, clip: Mapping, pretrained: str | None = RELEASED) -> None:
        super().__init__(clip, pretrained, _MEAN, _STD)

    def make_network(self, visual: Any) -> Masker:
        """See `FineTunedClip`."""
        return Masker(visual)

    def file_name(self, name: str) -> str:
        """See `FineTunedClip`."""
        ours = next(beginning for beginning in _NAMES if name.startswith(beginning))
        last = self.base.architecture.model['vision_cfg']['layers'] - 1
        name = _NAMES[ours].format(last=last) + name.removeprefix(ours)
        return re.sub(r'(\.conv2?\.gate)$', r'\1.gate', name)

    def may_lack(self, name: str) -> bool:
        """CLIP's towers were not trained further."""
        return name.startswith(_ENCODERS)

    def build_image_tower(self, positions: str) -> TclTower:
        """The errors are those of `state`."""
        return TclTower(self.clip.visual, positions, self.network)

    def empty_image_tower(self, positions: str = 'scale') -> TclTower:
        """On the meta device."""
        visual = self.clip.empty_visual()
        return TclTower(visual, positions, self.make_network(visual).eval().requires_grad_(False))
