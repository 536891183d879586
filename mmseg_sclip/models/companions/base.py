"""Second networks that look at the same windows as CLIP."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from torch import Tensor, nn

from ...checks import build_strategy
from ...errors import ConfigError, UserError
from ..image.colours import official_colours
from ..pretrained import Pretrained
from ..record import Record


@dataclass
class Features:
    """What a companion sees of a batch of windows. Every field begins with the axis of the windows.

    Attributes:
        map: (B, C, h, w), on the companion's own grid.
        queries: (B, C, h, w), the queries of its last attention, biases included, its heads side by side; None where
            the companion has none, as in the fields after it.
        keys: The keys likewise.
        values: The values likewise.
    """

    map: Tensor
    queries: Tensor | None = None
    keys: Tensor | None = None
    values: Tensor | None = None

    @property
    def grid(self) -> tuple[int, int]:
        """(h, w)."""
        return self.map.shape[-2], self.map.shape[-1]

    def get(self, name: str) -> Tensor:
        """A field by its name.

        Raises:
            ConfigError: The companion does not have it.
        """
        value = getattr(self, name, None)
        if value is None:
            there = [field.name for field in fields(self) if getattr(self, field.name) is not None]
            raise ConfigError(
                f'A part reads the {name} of a companion, which has only: {", ".join(there)}. Name another companion '
                'in model.companions.'
            )
        return value

    @classmethod
    def joined(cls, each: Sequence[Features], join: Callable[[Sequence[Tensor]], Tensor]) -> Features:
        """The features of several batches as those of one.

        Args:
            each: Of the batches.
            join: From the tensors of a field to one tensor.
        """
        values = {field.name: [getattr(features, field.name) for features in each] for field in fields(cls)}
        joined: Any = {name: None if value[0] is None else join(value) for name, value in values.items()}
        return cls(**joined)


@dataclass
class Relations:
    """How the cells of a whole image relate to each other in the last attention of a companion.

    Attributes:
        grid: (h, w), the cells that the image covers.
        values: (heads, h * w, head_dim), the values of each head.
        attention: (h * w, h * w) of each head, after the softmax. The maps are made while one goes through them, and
            only once, since those of all heads together are large; they may be changed in place.
    """

    grid: tuple[int, int]
    values: Tensor
    attention: Iterator[Tensor]


class Companion(nn.Module):
    """A frozen network beside CLIP, named in `model.companions`; parts read it with `record.companion(name)`.

    A kind of companion derives from this class, registers itself with `mmseg.registry.MODELS`, and writes `features`.
    One with weights writes `load` and `pretrained`, too: making it costs nothing and looks for no file.

    Attributes:
        mean: Mean of the images that it was trained with, in RGB, for values in 0..255.
        std: Their standard deviation.
    """

    mean: tuple[float, ...] = (123.675, 116.28, 103.53)
    std: tuple[float, ...] = (58.395, 57.12, 57.375)

    @property
    def pretrained(self) -> Pretrained | None:
        """Its weights, which need not be there; None where it has none, or random ones."""
        return None

    def load(self, weights: bool = True) -> None:
        """Make the network, in evaluation mode; called once, when a model is built.

        Args:
            weights: False for the layers alone, whose values do not matter, to count what they cost.

        Raises:
            MissingFileError: The weights are not there and cannot be fetched.
            BadFileError: They are damaged, or do not fit.
        """

    def features(self, images: Tensor) -> Features:
        """What it sees of windows (B, 3, H, W), which are normalised with its own mean and std."""
        raise NotImplementedError(f'{type(self).__name__} must define features(images).')

    def relations(self, image: Tensor) -> Relations:
        """How the cells of a whole image relate to each other.

        Args:
            image: (3, H, W), uint8, RGB.

        Raises:
            ConfigError: This kind of companion does not say.
        """
        raise ConfigError(
            f'A part asks {type(self).__name__} how the cells of a whole image relate to each other, which it does not '
            'say. Name another companion in model.companions, such as SamCompanion.'
        )

    def normalised(self, images: Tensor, record: Record) -> Tensor:
        """Images (..., 3, H, W) as this network wants them.

        Args:
            images: Normalised for the tower of a record.
            record: Of the windows, with the tower and the normaliser of the images.
        """
        colours = official_colours(images, record.normaliser, record.tower)
        # In 0..1, as official codes: a difference of rounding can decide which neighbour is the nearest.
        mean, std = (colours.new_tensor([v / 255 for v in values]).view(3, 1, 1) for values in (self.mean, self.std))
        return (colours / 255 - mean) / std

    def forward(self, record: Record) -> Features:
        """What it sees of the windows of a record."""
        return self.features(self.normalised(record.images, record))


def build_companions(configs: Mapping[str, Any] | None) -> dict[str, Companion]:
    """The companions of `model.companions` by name, not loaded; built ones are taken as they are.

    Raises:
        ConfigError: A type is unknown, or an argument is wrong.
    """
    return {
        name: build_strategy(f'model.companions.{name}', config, Companion) for name, config in (configs or {}).items()
    }


def load_frozen(companion: Companion, weights: bool = True, name: str = '') -> Companion:
    """Load a companion and freeze it; see `Companion.load`.

    Args:
        companion: Not loaded yet.
        weights: See `Companion.load`.
        name: Its name in `model.companions`, for messages, in which it stands in place of 'companions.*' and 'NAME'.
    """
    try:
        companion.load(weights)
    except UserError as error:
        if not name:
            raise
        said = str(error).replace('companions.*', f'companions.{name}').replace('NAME=FILE', f'{name}=FILE')
        raise type(error)(said) from error
    return companion.eval().requires_grad_(False)


def pretrained_of(companions: Mapping[str, Companion]) -> dict[str, Pretrained]:
    """The weights of companions by the names of these, for those that have some; their `setting` says where."""
    found = {name: companion.pretrained for name, companion in companions.items()}
    return {
        name: replace(own, name=name, setting=f'model.companions.{name}.{own.setting.rpartition(".")[2]}')
        for name, own in found.items()
        if own is not None
    }
