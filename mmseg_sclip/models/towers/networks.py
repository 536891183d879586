"""Sources whose released file holds a network for images and one for texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from ...errors import ConfigError
from ...files import file_hash
from ..random_weights import fixed_draw
from ..text.encoder import TextEncoder
from .released import ReleasedSource

_SCALE = 'the logit_scale'
_VERSION = 1  # to be raised when the text vectors of the same weights change beyond rounding


class NetworkSource(ReleasedSource):
    """The base of sources that lay out two networks of their own and fill them from one released file.

    A kind of it writes `lay_out` and `rename`, and what `TowerSource` asks for. The file must have every entry of both
    networks, in the shapes of the settings.

    Args:
        pretrained: See `ReleasedSource`.
        keep_text: Keep the text network in memory, for words that change.
        cache_dir: Folder of the cache of encoded phrases; None for mmseg_sclip's own.
        **more: See `ReleasedSource`.

    Attributes:
        positions: The rule by which its positional table is fitted to other grids; there is no other.
    """

    positions: str = 'size'

    def __init__(
        self, pretrained: str | None, keep_text: bool = False, cache_dir: str | None = None, **more: Any
    ) -> None:
        super().__init__(pretrained, **more)
        self.keep_text, self.cache_dir = keep_text, cache_dir
        self._scale: float | None = None
        self._random: dict[str, Tensor] = {}

    def lay_out(self, part: str) -> nn.Module:
        """A network with its parameters on the current device.

        Args:
            part: 'image' or 'text'. The names of parameters of both are different ones.
        """
        raise NotImplementedError(f'{type(self).__name__} must define lay_out(part).')

    def rename(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The entries of the file under the names of the networks, without those that no network needs.

        The logarithm of the factor of the cosines is called `logit_scale`.
        """
        raise NotImplementedError(f'{type(self).__name__} must define rename(state).')

    def settings(self) -> dict[str, Any]:
        """What the vectors of texts depend on beside the weights; JSON types."""
        return {}

    def empty(self, part: str) -> nn.Module:
        """A network on the meta device, frozen."""
        with torch.device('meta'):
            return self.lay_out(part).eval().requires_grad_(False)

    def network(self, part: str) -> nn.Module:
        """A network with its weights, frozen, on the CPU, in float32.

        Raises:
            MissingFileError: There is no such file.
            BadFileError: It is damaged, or does not fit.
        """
        network, weights = self.empty(part), self._state()
        state = {name: weights[name].clone() for name in network.state_dict()}  # not mapped to a file that may change
        network.load_state_dict(state, strict=True, assign=True)
        for owner in network.modules():  # buffers that no file has
            for name, value in owner.named_buffers(recurse=False):
                if value.is_meta:
                    setattr(owner, name, fixed_buffer(name, value.shape))
        return network.eval().requires_grad_(False)

    def logit_scale(self) -> float:
        """What cosines were multiplied with in training."""
        if self._scale is None:
            self._state()
        assert self._scale is not None
        return self._scale

    def check_positions(self, positions: str) -> None:
        """Refuse a rule for the positional table that this network does not have.

        Raises:
            ConfigError: With the rule that it has.
        """
        if positions != self.positions:
            raise ConfigError(
                f"backbone.positions is '{positions}', but the positional table of {self.name} is fitted by its own "
                f"rule. Set backbone.positions='{self.positions}'."
            )

    def _state(self) -> dict[str, Tensor]:
        """The weights of both networks, and `logit_scale`."""
        if self.pretrained is None:
            if not self._random:
                print_log(
                    f'{self.name} has RANDOM WEIGHTS because clip.pretrained is None: every prediction will be '
                    "meaningless. Set clip=dict(pretrained='released') or give a file.",
                    logger='current',
                    level=30,
                )
                self._random = {'logit_scale': torch.tensor(3.0)} | self._draw()
            state = self._random
        else:
            state = self.rename(self.read())
            # Under another name, since CLIP's files may do without it.
            if 'logit_scale' in state:
                state[_SCALE] = state.pop('logit_scale')
            expected = {_SCALE: torch.empty(())} | self.empty('image').state_dict() | self.empty('text').state_dict()
            state = {
                name: value.float() if value.is_floating_point() else value
                for name, value in self.pretrained.fit(state, expected).items()
            }
            state['logit_scale'] = state.pop(_SCALE)
        self._scale = float(state['logit_scale'].exp())
        return state

    def _draw(self) -> dict[str, Tensor]:
        """Random weights; no two groups or positions are alike, as they would be if these began with zeros."""
        with fixed_draw():
            state = {**self.lay_out('image').state_dict(), **self.lay_out('text').state_dict()}
            alike = [name for name, value in state.items() if value.ndim > 1 and not value.any()]
            return state | {name: torch.randn_like(state[name]) for name in alike}


def fixed_buffer(name: str, shape: Sequence[int]) -> Tensor:
    """The buffers of transformers' text networks that files do not have: numbers of positions, types of tokens."""
    if name == 'position_ids':
        return torch.arange(shape[-1]).expand(tuple(shape)).clone()
    if name == 'token_type_ids':
        return torch.zeros(tuple(shape), dtype=torch.int64)
    raise RuntimeError(f'The buffer {name} was left without memory. This is a bug.')


class NetworkTextEncoder(TextEncoder):
    """The base of text encoders of a `NetworkSource`; a kind of it writes `embed`.

    Args:
        source: Where the network comes from.
    """

    normalises_prompts = False

    def __init__(self, source: NetworkSource) -> None:
        super().__init__(source.keep_text, source.cache_dir)
        self.source = source

    @property
    def logit_scale(self) -> float:
        """What the weights say."""
        return self.source.logit_scale()

    def load(self) -> nn.Module:
        """The text network; errors as in `NetworkSource.network`."""
        return self.source.network('text')

    def identity(self) -> dict[str, Any] | None:
        """The weights by their content, the settings, and the kind of source; None for random weights."""
        path = self.source.weights
        if path is None:
            return None
        weights = file_hash(Path(path), self.folder / 'file_hashes.json')
        return dict(version=_VERSION, kind=type(self.source).__name__, weights=weights, **self.source.settings())
