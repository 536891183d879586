"""Weights that a model needs beside or in place of CLIP's: what they are called, where they lie, where to get them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import MissingFileError
from ..files import file_hash
from ..paths import cache_root

FLAG = '--weights NAME=FILE'


def weights_root() -> Path:
    """The folder in the cache where weights that must be copied by hand are looked for."""
    return cache_root() / 'weights'


@dataclass(frozen=True, kw_only=True)
class Pretrained:
    """A file of weights, which need not be there.

    It is the file that a config or a flag names, or one out of the folder `weights_root()`, or one of the Hugging Face
    hub, out of its cache or downloaded.

    Attributes:
        what: What it is, as messages and tables call it, such as 'DINO ViT-B/8'.
        setting: Its key in a config, such as 'model.companions.dino.pretrained'.
        given: The file that the setting names; None for the published one.
        names: Names of the published file, in `weights_root()` or in the repository of the hub, the best first.
        repository: Of the hub, ORG/REPO; None where the file is not there.
        published: Where it is published, in a few words.
        licence: Of the weights, in a few words.
        size: In MB, about; None where it is not known.
    """

    what: str
    setting: str
    given: str | None = None
    names: Sequence[str] = ()
    repository: str | None = None
    published: str = ''
    licence: str = ''
    size: int | None = None

    def find(self) -> Path | None:
        """The file if it is on this machine; nothing is fetched."""
        if self.given is not None:
            path = Path(self.given).expanduser()
            return path if path.is_file() else None
        for name in self.names:
            if (path := weights_root() / name).is_file():
                return path
        return None if self.repository is None else self._from_hub(offline=True)

    def fetch(self) -> Path:
        """The file, downloaded from the hub where it must be.

        Raises:
            MissingFileError: It is not there, and cannot be downloaded; the message says what to do.
        """
        path = self.find()
        if path is None and self.given is None and self.repository is not None:
            path = self._from_hub(offline=False)
        if path is None:
            raise MissingFileError(self.missing())
        return path

    def missing(self) -> str:
        """What to say where the file is missing: what it is, where it is published, and where to put it."""
        if self.given is not None:
            return f'{self.setting} is {self.given!r}, but there is no such file. It is to hold {self.what}.'
        published = f', published at {self.published}' if self.published else ''
        return (
            f'The weights of {self.what} are missing{published}. Put the file into {weights_root()} under the name '
            f'{" or ".join(self.names)}, or name it with {self.setting}=FILE ({FLAG} on the command line).'
        )

    def identity(self) -> dict[str, Any]:
        """What results and fingerprints say of the weights; JSON types.

        Returns:
            `name`, and `sha256` of their content.

        Raises:
            MissingFileError: As in `fetch`.
        """
        return dict(name=self.what, sha256=file_hash(self.fetch(), cache_root() / 'file_hashes.json'))

    def _from_hub(self, offline: bool) -> Path | None:
        from .clip.weights_file import fetch_from_hub, find_in_hub_cache

        assert self.repository is not None
        if offline:
            return find_in_hub_cache(self.repository, self.names)
        return fetch_from_hub(f'The weights of {self.what}', self.repository, self.names, None)
