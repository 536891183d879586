"""Files of weights: what they are called, where they lie, where to get them, and how they are read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from ..errors import BadFileError, MissingFileError
from ..files import file_hash
from ..paths import cache_root
from .hub import NotOnHub, fetch_from_hub, find_in_cache

# Names that files of many repositories have: in the folder of weights they must lie in a folder of their repository.
_USUAL = frozenset(
    f'{stem}.{suffix}'
    for stem in ('model', 'pytorch_model', 'open_clip_model', 'open_clip_pytorch_model')
    for suffix in ('safetensors', 'bin', 'pt', 'pth')
)
NAMED, FOLDER, CACHE, SHIPPED = 'named', 'weights folder', 'hub cache', 'shipped'


def weights_root() -> Path:
    """The folder in the cache where weights that must be copied by hand are looked for."""
    return cache_root() / 'weights'


class Place(NamedTuple):
    """Where a file of weights may lie.

    Attributes:
        kind: `NAMED` by a config or a flag, `FOLDER` for `weights_root()`, `CACHE` of the hub, `SHIPPED` with the
            package, or what else a kind of weights knows.
        path: Of the file.
    """

    kind: str
    path: Path


@dataclass(frozen=True, kw_only=True)
class Pretrained:
    """A file of weights, which need not be there.

    It is the file that a config or a flag names, or one out of the folder `weights_root()`, or one of the Hugging Face
    hub, out of its cache or downloaded.

    Attributes:
        what: What it is, as messages and tables call it, such as 'DINO ViT-B/8'.
        setting: Its key in a config, such as 'model.clip.pretrained'. A companion writes 'pretrained', since it does
            not know its name in `model.companions`; `needed_weights` completes it.
        name: What `--weights NAME=FILE` calls it; `needed_weights` fills it in.
        given: The file that the setting names; None for the published one.
        names: Names of the published file in `weights_root()`, the best first.
        repository: Of the hub, ORG/REPO; None where the file is not there.
        hub_names: Names in that repository, the best first; empty for `names`. `weights_root()` may hold such a file,
            too, in the folder ORG/REPO.
        published: Where it is published: an address, or a few words.
        licence: Of the weights, in a few words.
        size: In MB, about; None where it is not known.
        cache_dir: Of the hub; None for its own.
    """

    what: str
    setting: str
    name: str = ''
    given: str | None = None
    names: Sequence[str] = ()
    repository: str | None = None
    hub_names: Sequence[str] = ()
    published: str = ''
    licence: str = ''
    size: int | None = None
    cache_dir: str | None = None

    @property
    def downloadable(self) -> bool:
        """Whether the hub has it."""
        return self.given is None and self.repository is not None

    def places(self) -> Iterator[Place]:
        """All places where it may lie on this machine, the best first."""
        if self.given is not None:
            yield Place(NAMED, Path(self.given).expanduser())
            return
        for name in self.names:
            if name not in _USUAL:
                yield Place(FOLDER, weights_root() / name)
        if self.repository is None:
            return
        names = self.hub_names or self.names
        for name in names:
            yield Place(FOLDER, weights_root() / self.repository / name)
        if (path := find_in_cache(self.repository, names, self.cache_dir)) is not None:
            yield Place(CACHE, path)

    def locate(self) -> Place | None:
        """Where it lies on this machine, if it does; nothing is fetched."""
        return next((place for place in self.places() if place.path.is_file()), None)

    def find(self) -> Path | None:
        """The file if it is on this machine; nothing is fetched."""
        place = self.locate()
        return None if place is None else place.path

    def fetch(self) -> Path:
        """The file, downloaded from the hub where it must be.

        Raises:
            MissingFileError: It is not there, and cannot be downloaded; the message says what to do.
        """
        path, reason = self.find(), ''
        if path is None and self.downloadable:
            assert self.repository is not None
            try:
                path = fetch_from_hub(self.repository, self.hub_names or self.names, self.cache_dir)
            except NotOnHub as error:
                reason = str(error)
        if path is None:
            raise MissingFileError(self.missing(reason))
        return path

    def missing(self, reason: str = '') -> str:
        """One sentence to say where the file is missing: what it is, where it is published, and where to put it.

        Args:
            reason: Why it could not be downloaded; empty where that was not tried.
        """
        tried = f' and could not be downloaded ({reason})' if reason else ''
        return f'The weights of {self.what} are missing{tried}: {self.remedy()}.'

    def remedy(self) -> str:
        """What to do where the file is missing, to be read after a colon."""
        where = 'at' if '/' in self.published else 'in'  # an address, or words
        published = f', published {where} {self.published}' if self.published else ''
        if self.given is not None:
            wrong = 'is a folder' if Path(self.given).expanduser().is_dir() else 'is not there'
            return f'{self.place} names {self.given!r}, which {wrong}; correct it, or {self._name_it(published)}'
        wanted, folder = self.copy_to()
        return f'copy {wanted}{published}, into {folder}, or {self._name_it()}'

    def copy_to(self) -> tuple[str, Path]:
        """Which file must be copied, and into which folder."""
        if self.names and self.names[0] not in _USUAL:
            return self.names[0], weights_root()
        names, folder = self.hub_names or self.names, weights_root()
        return ' or '.join(names[:2]) or 'it', folder if self.repository is None else folder / self.repository

    @property
    def place(self) -> str:
        """The setting with its whole place in a config, as far as it is known."""
        return self.setting if '.' in self.setting else f'model.companions.{self.name or "*"}.{self.setting}'

    @property
    def flag(self) -> str:
        """The flag that names another file, such as '--weights dino=FILE'."""
        return f'--weights {self.name or "NAME"}=FILE'

    def _name_it(self, published: str = '') -> str:
        comma = published and ','
        return f'name the file{published}{comma} with {self.flag} ({self.place} in a config)'

    def identity(self) -> dict[str, Any]:
        """What results and fingerprints say of the weights; JSON types.

        Returns:
            `name`, and `sha256` of their content.

        Raises:
            MissingFileError: As in `fetch`.
        """
        return dict(name=self.what, sha256=file_hash(self.fetch(), cache_root() / 'file_hashes.json'))

    def read(self, outer_key: str | None = None) -> dict[str, Tensor]:
        """The state dict of the file, by its own names, on the CPU; no code in it is run.

        Args:
            outer_key: Under which key the state dict may lie, beside other things; None where the file is one.

        Raises:
            MissingFileError: There is no such file.
            BadFileError: It is damaged, or holds something else, or a value is not finite.
        """
        from .clip.weights import read_tensors, refuse_not_finite  # which needs the sources of towers, and they this

        path = self.fetch()
        content = read_tensors(path)
        if outer_key is not None and isinstance(content, Mapping):
            content = content.get(outer_key, content)
        if not isinstance(content, Mapping) or not any(isinstance(value, Tensor) for value in content.values()):
            raise BadFileError(
                f'{path} holds no state dict of tensors, where {self.what} was expected. Name another file with '
                f'{self.flag} ({self.place} in a config).'
            )
        state = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
        refuse_not_finite(path, state)
        return state

    def fit(self, state: dict[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The entries of a state dict under a network's names, checked against it; nothing is resized silently.

        Args:
            state: What `read` gives, its names already those of the network.
            expected: The state dict of the network, on any device.

        Raises:
            BadFileError: An entry is missing, left over or of another shape.
        """
        from .clip.weights import fit_weights

        advice = f'They are no weights of {self.what}: name the right file with {self.flag} ({self.place} in a config).'
        return fit_weights(self.fetch(), state, expected, self.what, advice)


class Shipped(Pretrained):
    """Weights that belong to the package; `given` is their file."""

    def places(self) -> Iterator[Place]:
        """The file of the package."""
        assert self.given is not None
        yield Place(SHIPPED, Path(self.given))
