"""Towers out of one file that another project has released."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from ..pretrained import Pretrained
from .source import TowerSource

RELEASED = 'released'


class ReleasedSource(TowerSource):
    """The base of sources whose weights are one released file; `model.clip.pretrained` may name another copy of it.

    Args:
        pretrained: 'released' for the file where `Pretrained` looks for it, the path of a copy, or None for random
            weights.
        **more: Those of `TowerSource`, without `name`.

    Attributes:
        release: What the file is called and where it is published.
        outer_key: Under which key of the file the state dict lies; None where the file is one.
    """

    release: Pretrained
    outer_key: str | None = 'model'

    def __init__(self, pretrained: str | None, **more: Any) -> None:
        super().__init__(self.release.what, **more)
        self.chosen = pretrained

    @property
    def pretrained(self) -> Pretrained | None:
        """See `TowerSource`."""
        if self.chosen is None:
            return None
        return replace(self.release, name='clip', given=None if self.chosen == RELEASED else self.chosen)

    @property
    def weights(self) -> Path | None:  # type: ignore[override]
        """See `TowerSource`; raises what `Pretrained.fetch` raises."""
        return None if self.pretrained is None else self.pretrained.fetch()

    def read(self) -> dict[str, Tensor]:
        """The state dict of the file, by its own names, on the CPU; no code in it is run.

        Raises:
            MissingFileError: There is no such file.
            BadFileError: It is damaged, or holds something else, or a value is not finite.
        """
        assert self.pretrained is not None
        return self.pretrained.read(self.outer_key)
