"""What correlative self-attention correlates: projections of the block's input (SCLIP, Table 2)."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Literal

import torch
from mmengine.logging import print_log
from mmseg.registry import MODELS
from torch import Tensor, nn

from ...checks import build_strategy, check_choice
from ...rules import AtLeast
from ..parts import Part
from ..record import BlockInput

if TYPE_CHECKING:
    from ..towers.image import ImageTower


class Projection(Part):
    """A way to get one or more streams (B, heads, N, head_dim) out of a block's input.

    Attributes:
        streams: How many.
    """

    streams: int = 1

    def forward(self, b: BlockInput) -> list[Tensor]:
        """The streams; each gives one term of the attention."""
        raise NotImplementedError(f'{type(self).__name__} must define forward(b).')


def split_heads(x: Tensor, heads: int) -> Tensor:
    """(B, N, width) to (B, heads, N, head_dim), as the block splits its queries."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


@MODELS.register_module()
class OwnProjection(Projection):
    """One of the block's own projections, biases included.

    Args:
        name: 'q', 'k' or 'v'.
    """

    def __init__(self, name: Literal['q', 'k', 'v']) -> None:
        super().__init__()
        self.name = name

    def forward(self, b: BlockInput) -> list[Tensor]:
        """The one stream."""
        return [getattr(b, self.name)]


@MODELS.register_module()
class IdentityProjection(Projection):
    """No projection: the block's input after its first LayerNorm, split into heads."""

    def forward(self, b: BlockInput) -> list[Tensor]:
        """The one stream."""
        return [split_heads(b.x, b.v.shape[1])]


@MODELS.register_module()
class RandomProjection(Projection):
    """Random matrices without bias, one stream each.

    Entries are normal with variance 1 / width, so that a channel keeps the mean square of its inputs.
    The paper does not give its initialisation. They are drawn on the CPU from `seed`, the same on every
    device.

    Args:
        count: Number of matrices. The paper averages the maps of several: `reduction='mean'`.
        seed: Of the matrices.
    """

    matrices: Tensor

    def __init__(self, count: Annotated[int, AtLeast(1)] = 1, seed: int = 0) -> None:
        super().__init__()
        self.streams = count
        self.seed = seed

    def bind(self, tower: ImageTower) -> None:
        """Draw the matrices (count, width, width)."""
        super().bind(tower)
        generator = torch.Generator().manual_seed(self.seed)
        shape = (self.streams, tower.width, tower.width)
        self.register_buffer('matrices', torch.randn(shape, generator=generator) * tower.width**-0.5, persistent=False)

    def forward(self, b: BlockInput) -> list[Tensor]:
        """One stream per matrix."""
        return [split_heads(b.x @ matrix.to(b.x.dtype), b.v.shape[1]) for matrix in self.matrices]


@MODELS.register_module()
class LearnedProjection(Projection):
    """One trainable matrix W_r (width, width) without bias, the only trained weight of SCLIP (section 4.3).

    With it alone the map is softmax(X W_r W_r^T X^T / tau), whose rows sum to 1. Used without being trained
    or loaded, it logs one warning.

    Args:
        init: 'q' starts from the block's query weights, 'identity' from the unit matrix.
    """

    def __init__(self, init: Literal['q', 'identity'] = 'q') -> None:
        super().__init__()
        self.init = init
        self._untrained = True

    def bind(self, tower: ImageTower) -> None:
        """Make the parameter `matrix`, so that a stream is x @ matrix."""
        super().bind(tower)
        start = torch.eye(tower.width)
        if self.init == 'q':
            start = tower.query_weights(tower.depth).detach().float().T.clone()
        self.matrix = nn.Parameter(start.contiguous())

    def _load_from_state_dict(self, state_dict: Mapping, prefix: str, *args) -> None:
        super()._load_from_state_dict(state_dict, prefix, *args)
        self._untrained = self._untrained and f'{prefix}matrix' not in state_dict

    def forward(self, b: BlockInput) -> list[Tensor]:
        """The one stream."""
        if self._untrained:
            self._untrained = False
            if not (self.training and torch.is_grad_enabled()):
                print_log(
                    f"The learned projection is still at its start ('{self.init}'): no checkpoint was loaded. Train "
                    'it with tools/train.py CONFIG, and give the checkpoint after the config.',
                    logger='current',
                    level=logging.WARNING,
                )
        return [split_heads(b.x @ self.matrix.to(b.x.dtype), b.v.shape[1])]


# The short names of configs.
SHORT_NAMES: dict[str, dict] = {
    **{name: dict(type='OwnProjection', name=name) for name in ('q', 'k', 'v')},
    'identity': dict(type='IdentityProjection'),
    'random': dict(type='RandomProjection'),
    'learned': dict(type='LearnedProjection'),
}


def build_projection(entry: str | Mapping | Projection) -> Projection:
    """Build a projection from a short name, a config or an instance.

    Raises:
        ConfigError: The name is unknown or the config is wrong.
    """
    if isinstance(entry, str):
        check_choice('An entry of projections', entry, SHORT_NAMES)
        entry = SHORT_NAMES[entry]
    return build_strategy('an entry of projections', entry, Projection)
