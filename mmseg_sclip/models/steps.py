"""Steps that work on all windows of an image together, before the head and after it.

Windows go through the tower in batches, as those of other methods of a pass; then a step sees all windows of one image
and of no other. Windows
of one image have one size, so their tokens and scores are stacked on the first axis; `record.places` says where each
of them lies.
"""

from __future__ import annotations

from torch import Tensor

from .parts import Part
from .tokens import Tokens


class Stitch(Part):
    """Changes the tokens of all windows of an image before the head reads them; named by `model.stitch`.

    Attributes:
        takes: The class of the tokens that it reads.
        joins: Whether it makes one map of the whole image out of those of the windows. The map covers the image without
            the padding of the pipeline, in the orientation of the network's input, and its scores go straight to the
            original size.
    """

    takes: type[Tokens] = Tokens
    joins: bool = False

    all_windows = True

    def forward(self, tokens: Tokens) -> Tokens:
        """New tokens, of patches (windows, n, D), or (1, n, D) where it `joins` them.

        Args:
            tokens: Of all windows of an image; `tokens.record` is the record of these windows.
        """
        raise NotImplementedError(f'{type(self).__name__} must define forward(tokens).')


class Propagation(Part):
    """Changes the scores of all windows of an image after the head; named by `model.propagation`."""

    all_windows = True

    def forward(self, scores: Tensor, tokens: Tokens) -> Tensor:
        """New scores of each distinct phrase (windows, P, h, w), float32; `tokens` are what they come from."""
        raise NotImplementedError(f'{type(self).__name__} must define forward(scores, tokens).')
