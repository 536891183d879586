"""The methods, one per file or folder; importing this package registers their parts with MMSegmentation.

What several methods share lies with the seam: in `attention`, `decoders`, `heads` and `refinements`.
"""

from . import (
    clip_surgery,
    cliper,
    cliptrase,
    freecp,
    gem,
    maskclip,
    naclip,
    pearl,
    resclip,
    sc_clip,
    sclip_ablations,
    sfp,
)

__all__ = [
    'clip_surgery',
    'cliper',
    'cliptrase',
    'freecp',
    'gem',
    'maskclip',
    'naclip',
    'pearl',
    'resclip',
    'sc_clip',
    'sclip_ablations',
    'sfp',
]
