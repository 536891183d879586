"""The seam of the decoders: how the last blocks are rebuilt."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from ..attention.base import Attention
from ..parts import Part
from ..record import BlockInput, Feedback, Record
from ..tokens import Tokens
from ..towers.image import ImageTower


class Decoder(Part):
    """Which blocks are rebuilt, and how the streams run through them.

    Attributes:
        attends: The class of the attentions that it runs with.
        decodes: The class of the image towers that it reads; left out, any whose blocks it can rebuild.
        gives: The class of its tokens.
        gives_class_token: Whether they hold a class token.
        places: How many of its places lie on each side of a patch of the tower.
    """

    attends: type[Attention] = Attention
    decodes: type[ImageTower] = ImageTower
    gives: type[Tokens] = Tokens
    gives_class_token: bool = True
    places: int = 1

    def bind(self, tower: ImageTower) -> None:
        """See `Part.bind`.

        Raises:
            ConfigError: It cannot read this tower.
        """
        tower.check_decoder(self)
        super().bind(tower)

    def block_input(self, number: int, record: Record, feedback: Feedback | None = None) -> BlockInput:
        """What the decoder's attention sees in block `number`, from 1; here the recorded stream.

        Pictures of attention are made from it. A decoder whose last block looks at a stream of its own gives that.
        """
        return record.block_input(number, feedback=feedback)

    def forward(self, record: Record, feedback: Feedback | None = None) -> Tokens:
        """Rebuild the last block(s) on the recorded streams.

        Args:
            record: Of the windows, with all block outputs that the decoder `needs`.
            feedback: What the pass before has computed, or None.
        """
        raise NotImplementedError(f'{type(self).__name__} must define forward(record, feedback).')

    def run(self, record: Record, score: Callable[[Tokens], Tensor]) -> tuple[Tokens, Feedback | None]:
        """Make all passes over a record; each is scored, and the next one looks at the scores.

        Args:
            record: Of the windows. Several decoders may share one.
            score: From tokens to scores (B, Q, h, w); called between passes only.

        Returns:
            The tokens of the last pass, and the feedback that this pass had.
        """
        feedback = None
        tokens = self._pass(record, None)
        for _ in range(self.passes - 1):
            feedback = Feedback(score(tokens))
            tokens = self._pass(record, feedback)
        return tokens, feedback

    def _pass(self, record: Record, feedback: Feedback | None) -> Tokens:
        with record.tower.own_precision(record.images.device):
            tokens = self(record, feedback)
        tokens.record = record
        return tokens
