"""The passes of a decoder over one record of the image tower."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from torch import Tensor

from .streams import Feedback, Memory, Tokens

if TYPE_CHECKING:
    from .clip.tower import VisionTower
    from .decoders.base import Decoder


def run_passes(
    decoder: Decoder, tower: VisionTower, memory: Memory, score: Callable[[Tokens], Tensor]
) -> tuple[Tokens, Feedback | None]:
    """Run a decoder as often as it asks for; each pass is scored and the next one looks at the scores.

    Args:
        decoder: The decoder, bound to the tower.
        tower: The image tower.
        memory: Its record, with all that the decoder needs. Several decoders may share one.
        score: From tokens to scores (B, Q, h, w); called between passes only.

    Returns:
        The tokens of the last pass, and the feedback that this pass had.
    """
    feedback = None
    tokens = decoder(tower, memory)
    for _ in range(decoder.passes - 1):
        feedback = Feedback(score(tokens))
        tokens = decoder(tower, memory, feedback)
    return tokens, feedback
