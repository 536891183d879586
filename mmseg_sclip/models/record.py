"""The record of a batch of windows: what the image tower and other networks say of them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from .image.windows import Place

if TYPE_CHECKING:
    from .companions import Companion, Features
    from .towers.image import ImageTower


@dataclass(frozen=True, eq=False)
class Source:
    """An image that windows were cut from.

    Attributes:
        image: (3, H, W), the network's input, normalised for the tower, padding of the pipeline included.
        meta: The `metainfo` of its sample, such as `ori_shape`, `img_path` and what was padded and flipped.
    """

    image: Tensor
    meta: Mapping[str, Any]
    _computed: dict[nn.Module, Any] = field(default_factory=dict, repr=False)

    def once(self, part: nn.Module, make: Callable[[], Any]) -> Any:
        """What a part makes of the whole image, computed when it is asked for first, and then kept with the image.

        All records of a pass in which the image has windows share it.
        """
        if part not in self._computed:
            self._computed[part] = make()
        return self._computed[part]


class Record:
    """What is known of a batch of windows; methods that share a tower read the same one.

    Args:
        tower: The image tower that has made it.
        images: (B, 3, H, W), the windows, normalised for the tower.
        grid: (h, w) in patches; a stream has N = tower.prefix + h * w tokens.
        outputs: Block outputs (B, N, width) by block number; 0 is the embedding.
        places: Where each window lies; empty where the images are not windows of others.
        sources: The images that `places` counts; empty likewise.

    Attributes:
        companions: The second networks of the model that reads the record, by name; see `read_by`.
        normaliser: What has normalised the images, with its `mean` and `std`; the tower where nobody says so.
    """

    def __init__(
        self,
        tower: ImageTower,
        images: Tensor,
        grid: tuple[int, int],
        outputs: Mapping[int, Tensor],
        places: Sequence[Place] = (),
        sources: Sequence[Source] = (),
    ) -> None:
        self.tower = tower
        self.images = images
        self.grid = grid
        self.places = tuple(places)
        self.sources = tuple(sources)
        self.companions: Mapping[str, Companion] = {}
        self.normaliser: Any = tower
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

    def source(self, window: int) -> tuple[Source, Place]:
        """The image that a window was cut from, and where it lies in it; a window without a place is an image."""
        if self.places:
            return self.sources[self.places[window].image], self.places[window]
        image = self.images[window]
        height, width = image.shape[-2:]
        return Source(image, dict(ori_shape=(height, width))), Place(window, (0, height), (0, width))

    def read_by(self, companions: Mapping[str, Companion]) -> Record:
        """The same record for a model with these companions; all that is computed is shared."""
        record = copy.copy(self)
        record.companions = companions
        return record


class JoinedRecord(Record):
    """Windows out of the records of several batches, such as all windows of an image, as one record.

    What companions see of the windows is that of the batches, in which other methods have asked for it perhaps.

    Args:
        pieces: Records of one tower and one grid, and which of their windows are meant, by their numbers.
        needs: Block outputs to take over.
    """

    def __init__(self, pieces: Sequence[tuple[Record, Sequence[int]]], needs: Iterable[int]) -> None:
        first = pieces[0][0]
        self._pieces = pieces
        super().__init__(
            first.tower,
            self._join([record.images for record, _ in pieces]),
            first.grid,
            {number: self._join([record[number] for record, _ in pieces]) for number in needs},
            [record.places[window] for record, windows in pieces for window in windows],
            first.sources,
        )
        self.normaliser = first.normaliser

    def companion(self, name: str) -> Features:
        """See `Record.companion`."""
        if name not in self.companions:
            return super().companion(name)
        network = self.companions[name]
        if network not in self._computed:
            each = [record.once(network) for record, _ in self._pieces]
            self._computed[network] = each[0].joined(each, self._join)
        return self._computed[network]

    def _join(self, values: Sequence[Tensor]) -> Tensor:
        """(windows, ...) from a tensor of each piece, of all its windows."""
        chosen = [
            value if list(windows) == list(range(len(value))) else value[list(windows)]
            for value, (_, windows) in zip(values, self._pieces, strict=True)
        ]
        return chosen[0] if len(chosen) == 1 else torch.cat(chosen)


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
        grid: (h, w) in patches; N = prefix + h * w, rows first. Left out it is the tower's; a decoder that attends on
            another grid, such as that of a companion, gives its own.
        prefix: The number of tokens in front of the patches; left out that of the tower: 1, the class token.
    """

    q: Tensor
    k: Tensor
    v: Tensor
    x: Tensor
    scale: float
    record: Record
    feedback: Feedback | None = None
    grid: tuple[int, int] = None  # type: ignore[assignment]
    prefix: int = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        self.grid = self.record.grid if self.grid is None else self.grid
        self.prefix = self.record.tower.prefix if self.prefix is None else self.prefix

    def earlier(self, block: int) -> BlockInput:
        """The input of an earlier block, its q, k and v computed anew from the recorded stream.

        Args:
            block: The number of the block, from 1; negative numbers count from the end, -1 is the last block.

        Raises:
            LookupError: The output of the block before it is not in the attention's `needs`.
        """
        return self.record.block_input(block, feedback=self.feedback)
