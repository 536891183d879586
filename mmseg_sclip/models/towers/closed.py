"""Image towers that run as a whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from torch import Tensor

from ...errors import ConfigError
from .image import ImageTower

if TYPE_CHECKING:
    from ..decoders.base import Decoder
    from ..record import Record


class ClosedTower(ImageTower):
    """A frozen network without blocks that a decoder could rebuild, such as one that groups patches.

    Its record has one output, the embedding 0. All the rest is made once for each record, by `record.once(tower)`: a
    kind of closed tower writes `embed` and `forward(record)`, and has a decoder that names it in `Decoder.decodes`.
    Parts that ask for blocks are told at once that there are none.

    Attributes:
        decoder: A config of its decoder, as messages show it.
    """

    depth = 0
    heads = 0
    prefix = 0
    decoder: str = "dict(type='...')"

    def forward(self, record: Record) -> Any:
        """All that the network makes of the windows of a record, after the embedding."""
        raise NotImplementedError(f'{type(self).__name__} must define forward(record).')

    def run_whole(self, images: Tensor) -> Any:
        """See `ImageTower.run_whole`."""
        return self.record(images, (0,)).once(self)

    def check_decoder(self, decoder: Decoder) -> None:
        """Refuse decoders of blocks.

        Raises:
            ConfigError: It rebuilds blocks.
        """
        if decoder.decodes is ImageTower:
            self._refuse(f'the decoder {type(decoder).__name__} rebuilds blocks')
        super().check_decoder(decoder)

    def block_number(self, number: int) -> int:
        """Only the embedding, 0, is recorded.

        Raises:
            ConfigError: A block is asked for.
        """
        if number != 0:
            self._refuse(f'block {number} is asked for')
        return 0

    def run_block(self, number: int, x: Tensor) -> NoReturn:
        """Refused with a ConfigError, as all that follows."""
        self._refuse('a block is run')

    def norm(self, number: int, x: Tensor) -> NoReturn:
        """Refused."""
        self._refuse("a block's LayerNorm is asked for")

    def project_qkv(self, number: int, x: Tensor) -> NoReturn:
        """Refused."""
        self._refuse("a block's queries, keys and values are asked for")

    def query_weights(self, number: int) -> NoReturn:
        """Refused."""
        self._refuse("a block's query weights are asked for")

    def merge_heads(self, number: int, heads: Tensor) -> NoReturn:
        """Refused."""
        self._refuse("a block's attention is rebuilt")

    def feed_forward_branch(self, number: int, x: Tensor) -> NoReturn:
        """Refused."""
        self._refuse("a block's feed-forward part is run")

    def project(self, x: Tensor) -> NoReturn:
        """Refused."""
        self._refuse('tokens are projected')

    def _refuse(self, what: str) -> NoReturn:
        raise ConfigError(
            f'{what[0].upper()}{what[1:]}, but {type(self).__name__} runs as a whole, without blocks that parts could '
            "read or rebuild: attentions such as SCLIP's need a model.clip that is a plain Vision Transformer. Set "
            f'backbone.decoder={self.decoder}, and take out parts that read blocks.'
        )
