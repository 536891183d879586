"""The two towers of a CLIP that another project went on training."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from ...files import file_hash, file_stamp
from .architecture import check_tag, refuse_activation
from .layout import lay_out
from .source import ClipSource
from .text_encoder import ClipTextEncoder
from .weights import is_unused

if TYPE_CHECKING:
    from .fine_tuned import FineTunedClip

NETWORK = 'network.'  # before the names of the entries that CLIP does not have


class TunedClip(ClipSource):
    """A CLIP with the weights of the file of its owner.

    Args:
        owner: Which reads the file.
        clip: See `ClipConfig`.
    """

    def __init__(self, owner: FineTunedClip, clip: Mapping) -> None:
        super().__init__(**clip)
        self.owner = owner

    @cached_property
    def weights(self) -> Path | None:  # type: ignore[override]
        """See `ClipSource`; a model with another activation is refused, since the file does not tell its own."""
        if self.owner.chosen is None:
            return super().weights
        check_tag(self.config, self.architecture)
        refuse_activation(self.config, self.architecture, True, f'The weights of {self.owner.release.what}')
        return self.owner.weights

    def shapes(self) -> dict[str, Tensor]:
        """The entries of both towers by open_clip's names, on the meta device."""
        model = lay_out(self.architecture, self.config, 'image')
        return {name: value for name, value in model.state_dict().items() if not is_unused(name)}

    def logit_scale(self) -> float:
        """See `FineTunedClip`."""
        return self.owner.logit_scale()

    def release(self) -> None:
        """See `ClipSource`."""
        super().release()
        self.owner.forget()

    def _weights(self, model: nn.Module) -> dict[str, Tensor]:
        if self.owner.chosen is None:
            return super()._weights(model)
        if self._state is None:
            self._stamp = self._stamp or (None if self.weights is None else file_stamp(self.weights))
            state = self.owner.state()
            self._state = {name: value for name, value in state.items() if not name.startswith(NETWORK)}
        return self._state


class TunedTextEncoder(ClipTextEncoder):
    """open_clip's text tower with the tuned weights; prompts are averaged over templates as they are.

    Args:
        source: Where the weights come from.
    """

    normalises_prompts = False

    def __init__(self, source: TunedClip) -> None:
        super().__init__(source)
        self.owner = source.owner

    def identity(self) -> dict[str, Any] | None:
        """As in the base, with CLIP's own weights where they are in use."""
        identity = super().identity()
        if identity is None:
            return None
        base = self.owner.base.weights if self.owner.needs_base() else None
        own = None if base is None else file_hash(base, self.folder / 'file_hashes.json')
        return {**identity, 'normalises_prompts': False, 'base': own}
