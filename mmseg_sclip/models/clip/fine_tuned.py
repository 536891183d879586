"""A CLIP that another project went on training: its file has what it changed and added, CLIP's own weights the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from mmengine.logging import print_log
from torch import Tensor

from ...errors import BadFileError
from ..pretrained import Pretrained
from ..random_weights import fixed_draw
from ..towers.released import RELEASED, ReleasedSource
from .config import PRECISIONS
from .layout import fill
from .source import ClipSource
from .tuned_clip import NETWORK, TunedClip, TunedTextEncoder
from .weights import USUAL_SCALE, read_tensors


class FineTunedClip(ReleasedSource):
    """The base of sources that are a CLIP of open_clip with other weights and a network of their own beside it.

    A kind of source sets the attributes below and writes `make_network`, `file_name`, `may_lack` and the image tower.

    Args:
        clip: The CLIP that it began with, see `ClipConfig`; with its precision. Its weights are looked for where the
            file lacks entries that it may lack, or where there is no file.
        pretrained: As in `ReleasedSource`; None for the CLIP with an untrained network.
        mean: As in `TowerSource`; None for CLIP's.
        std: As in `TowerSource`; None for CLIP's.

    Attributes:
        ignored: Beginnings of the names of entries of the file that are of no use here.
        scale_entry: The entry that is the logarithm of what cosines were multiplied with; None where there is none.
        positions: The rule by which the positional table is fitted to other grids in the official code.
        base: The CLIP that it began with.
        clip: The same CLIP with the weights of the file.
    """

    ignored: tuple[str, ...] = ()
    scale_entry: str | None = None
    positions: str = 'size'

    def __init__(
        self,
        clip: Mapping,
        pretrained: str | None = RELEASED,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        self.base = ClipSource(**clip)
        self.clip = TunedClip(self, clip)
        super().__init__(
            pretrained,
            mean=tuple(mean or self.base.mean),
            std=tuple(std or self.base.std),
            precision=self.base.config.precision,
        )
        if self.chosen is None:
            self.name = f'{self.release.what} before training, on {self.base.name}'
        self._content: dict[str, Tensor] | None = None
        self._logit_scale: float | None = None

    def make_network(self, visual: Any) -> Any:
        """What CLIP does not have, untrained.

        Args:
            visual: The image tower, of whose parts copies may be taken; it may be on the meta device, and the network
                then must be, too.
        """
        raise NotImplementedError(f'{type(self).__name__} must define make_network(visual).')

    def file_name(self, name: str) -> str:
        """What the file calls an entry.

        Args:
            name: Of open_clip, or of the network with 'network.' in front.
        """
        raise NotImplementedError(f'{type(self).__name__} must define file_name(name).')

    def may_lack(self, name: str) -> bool:
        """Whether CLIP's own weights take the place of an entry that the file does not have; by the file's name."""
        raise NotImplementedError(f'{type(self).__name__} must define may_lack(name).')

    @property
    def weights(self) -> Path | None:  # type: ignore[override]
        """The released file, or that of the CLIP where there is none; None for random ones."""
        return self.base.weights if self.chosen is None else super().weights

    @property
    def all_pretrained(self) -> dict[str, Pretrained]:
        """The released file, and as `base` CLIP's own weights where they are in use, or may be."""
        own = self.base.pretrained
        base = None if own is None else replace(own, name='base', setting='model.clip.clip.pretrained')
        if self.chosen is None:
            return {} if base is None else {'clip': replace(base, name='clip')}
        assert self.pretrained is not None
        found = {'clip': self.pretrained}
        return found if base is None or not self.needs_base() else {**found, 'base': base}

    def needs_base(self) -> bool:
        """Whether CLIP's own weights are in use: there is no file, it is not on this machine, or it lacks entries."""
        path = None if self.pretrained is None else self.pretrained.find()
        if path is None:
            return True
        content: Any = self._content
        try:
            content = read_tensors(path) if content is None else content  # its names; numbers stay on the disk
        except BadFileError:  # which is said when it is loaded
            return False
        if self.outer_key is not None and isinstance(content, Mapping):
            content = content.get(self.outer_key, content)
        return isinstance(content, Mapping) and bool(self._lacking(content))

    def content(self) -> dict[str, Tensor]:
        """The entries of the file, by its names; see `read`. They are kept until `forget`."""
        if self._content is None:
            self._content = self.read()
        return self._content

    def forget(self) -> None:
        """Forget what was read; it is read again if a tower is built later."""
        self._content = None

    def state(self) -> dict[str, Tensor]:
        """The weights of both towers and the network by their names here; those of the network begin with 'network.'.

        Raises:
            MissingFileError: There is no such file.
            BadFileError: It is damaged, or has other entries or shapes.
        """
        content = {name: value for name, value in self.content().items() if not name.startswith(self.ignored)}
        content.pop(self.scale_entry or '', None)
        expected = self._expected()
        if lacking := self._lacking(content):
            own = self.base.state()
            content |= {self.file_name(name): own[name] for name in lacking}
            self.base.release()
        assert self.pretrained is not None
        fitted = self.pretrained.fit(content, {self.file_name(name): value for name, value in expected.items()})
        return {name: fitted[self.file_name(name)] for name in expected}

    @cached_property
    def network(self) -> Any:
        """What CLIP does not have, with its weights, frozen; errors as in `state`."""
        precision = PRECISIONS[self.precision]
        if self.chosen is not None:
            state = self.state()
            own = {name.removeprefix(NETWORK): state[name] for name in state if name.startswith(NETWORK)}
            return fill(self.make_network(self.clip.empty_visual()), own, precision)
        print_log(
            f'What {self.release.what} adds to CLIP is UNTRAINED because clip.pretrained is None: its predictions are '
            f"not those of {self.release.what}. Set clip=dict(pretrained='{RELEASED}') or give a file.",
            logger='current',
            level=30,
        )
        visual = self.clip.visual
        with fixed_draw():
            network = self.make_network(visual)
        return fill(network, network.state_dict(), precision)

    def logit_scale(self) -> float:
        """What cosines were multiplied with in training; CLIP's where the file does not say it."""
        if self.chosen is None:
            return self.base.logit_scale()
        if self._logit_scale is None:
            scale = None if self.scale_entry is None else self.content().get(self.scale_entry)
            self._logit_scale = USUAL_SCALE if scale is None or scale.numel() != 1 else scale.float().exp().item()
        return self._logit_scale

    def build_text_encoder(self) -> TunedTextEncoder:
        """The text tower with its tokenizer."""
        return TunedTextEncoder(self.clip)

    def _expected(self) -> dict[str, Tensor]:
        network = self.make_network(self.clip.empty_visual()).state_dict()
        return {**self.clip.shapes(), **{f'{NETWORK}{name}': value for name, value in network.items()}}

    def _lacking(self, content: Mapping[str, Any]) -> list[str]:
        """The entries of CLIP, by open_clip's names, that the file does not have and need not have."""
        names = {name: self.file_name(name) for name in self.clip.shapes()}
        return [name for name, own in names.items() if own not in content and self.may_lack(own)]
