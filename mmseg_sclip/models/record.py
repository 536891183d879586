"""The record of a batch of windows: what the image tower and other networks say of them."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

if TYPE_CHECKING:
    from .companions import Companion, Features
    from .image.windows import Place
    from .towers.image import ImageTower


class Record:
    """What is known of a batch of windows; methods that share a tower read the same one.

    Args:
        tower: The image tower that has made it.
        images: (B, 3, H, W), the windows, normalised for the tower.
        grid: (h, w) in patches; a stream has N = tower.prefix + h * w tokens.
        outputs: Block outputs (B, N, width) by block number; 0 is the embedding.
        places: Where each window lies; empty where the images are not windows of others.

    Attributes:
        companions: The second networks of the model that reads the record, by name; see `read_by`.
    """

    def __init__(
        self,
        tower: ImageTower,
        images: Tensor,
        grid: tuple[int, int],
        outputs: Mapping[int, Tensor],
        places: Sequence[Place] = (),
    ) -> None:
        self.tower = tower
        self.images = images
        self.grid = grid
        self.places = tuple(places)
        self.companions: Mapping[str, Companion] = {}
        self._outputs = outputs
        self._computed: dict[nn.Module, Any] = {}

    def __contains__(self, number: int) -> bool:
        return number in self._outputs

    def __getitem__(self, number: int) -> Tensor:
        """The output (B, N, width) of block `number`, or the embedding for 0.

        Raises:
            LookupError: It is not recorded.
        """
        if number not in self._outputs:
            raise LookupError(
                f'The output of block {number} is not recorded (recorded: {sorted(self._outputs)}). Put {number} into '
                'the `needs` of the part that reads it.'
            )
        return self._outputs[number]

    def patches(self, number: int) -> Tensor:
        """The output of a block without the tokens in front of the patches: (B, h * w, width)."""
        return self[number][:, self.tower.prefix :]

    def block_input(self, number: int, stream: Tensor | None = None, feedback: Feedback | None = None) -> BlockInput:
        """What an attention sees inside a block.

        Args:
            number: The block, from 1; negative numbers count from the end.
            stream: (B, N, width), the block's input, for decoders that carry a stream of their own; None for the
                recorded output of the block before it.
            feedback: What the pass before has computed, or None.

        Raises:
            LookupError: That output is not recorded.
        """
        number = self.tower.block_number(number)
        if number == 0:
            raise LookupError(
                f'Block 0 is the embedding and has no attention; blocks count from 1 to {self.tower.depth}.'
            )
        x = self.tower.norm(number, self[number - 1] if stream is None else stream)
        q, k, v = self.tower.project_qkv(number, x)
        return BlockInput(q, k, v, x, q.shape[-1] ** -0.5, self, feedback)

    def once(self, part: nn.Module) -> Any:
        """What a part makes of this record, computed when it is asked for first, and then kept."""
        if part not in self._computed:
            with self.tower.own_precision(self.images.device):
                self._computed[part] = part(self)
        return self._computed[part]

    def companion(self, name: str) -> Features:
        """What a second network sees of the windows, on its own grid; computed when it is asked for first.

        Raises:
            LookupError: The model has no such companion.
        """
        if name not in self.companions:
            raise LookupError(
                f"There is no companion '{name}' (there are: {sorted(self.companions)}). Name it in model.companions, "
                'and in the `companions` of the part that reads it.'
            )
        return self.once(self.companions[name])

    def read_by(self, companions: Mapping[str, Companion]) -> Record:
        """The same record for a model with these companions; all that is computed is shared."""
        record = copy.copy(self)
        record.companions = companions
        return record


@dataclass
class Feedback:
    """What the pass before has computed, for decoders of several passes.

    Attributes:
        scores: (B, Q, h, w), the head's scores of the patches with the queries.
    """

    scores: Tensor


@dataclass
class BlockInput:
    """All that an attention may look at inside one block.

    Attributes:
        q: (B, heads, N, head_dim), the query projections, biases included, not scaled.
        k: (B, heads, N, head_dim), the keys.
        v: (B, heads, N, head_dim), the values.
        x: (B, N, width), the block's input after its first LayerNorm.
        scale: head_dim ** -0.5, to multiply the products of queries and keys with.
        record: The record of the windows, with the block outputs that the attention `needs`.
        feedback: What the pass before has computed; None in the first pass.
    """

    q: Tensor
    k: Tensor
    v: Tensor
    x: Tensor
    scale: float
    record: Record
    feedback: Feedback | None = None

    @property
    def grid(self) -> tuple[int, int]:
        """(h, w) in patches; N = prefix + h * w, rows first."""
        return self.record.grid

    @property
    def prefix(self) -> int:
        """The number of tokens in front of the patches: 1, the class token."""
        return self.record.tower.prefix

    def earlier(self, block: int) -> BlockInput:
        """The input of an earlier block, its q, k and v computed anew from the recorded stream.

        Args:
            block: The number of the block, from 1; negative numbers count from the end, -1 is the last block.

        Raises:
            LookupError: The output of the block before it is not in the attention's `needs`.
        """
        return self.record.block_input(block, feedback=self.feedback)
