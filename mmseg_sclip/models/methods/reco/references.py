"""Where the images of the classes come from: a folder, an index file, or the painter of the demo."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ....checks import build_strategy
from ....errors import BadFileError, ConfigError, MissingFileError
from ....files import file_hash
from ....images import read_photograph, readable_suffixes
from .place import KINDS, place_of
from .vectors import read_vectors


class References:
    """The base of what names images for classes; registered ones can be named in `decode_head.references`.

    Attributes:
        where: What messages call it.
    """

    where: str

    def number(self, name: str) -> int:
        """How many images there are of a name; names are compared as `plain` writes them."""
        raise NotImplementedError(f'{type(self).__name__} must define number(name).')

    def images(self, name: str, most: int) -> list[np.ndarray]:
        """The first images of a name, up to `most`: (H, W, 3) each, uint8, RGB."""
        raise NotImplementedError(f'{type(self).__name__} must define images(name, most).')

    def identity(self, name: str, most: int) -> list[str]:
        """What the same images depend on."""
        raise NotImplementedError(f'{type(self).__name__} must define identity(name, most).')


class FileReferences(References):
    """Images in files.

    Args:
        where: What messages call it.
        files: By name.
    """

    def __init__(self, where: str, files: Mapping[str, Sequence[Path]]) -> None:
        self.where = where
        self.files: dict[str, list[Path]] = {}
        for name, paths in files.items():
            self.files.setdefault(plain(name), []).extend(paths)

    @classmethod
    def of_folder(cls, folder: Path) -> FileReferences:
        """A subfolder for each name, with images."""
        return cls(f'The folder {folder}', {path.name: _images_in(path) for path in folder.iterdir() if path.is_dir()})

    @classmethod
    def of_index(cls, index: Path) -> FileReferences:
        """A JSON object: names to lists of paths, which are relative to its folder.

        Raises:
            BadFileError: It is something else.
            MissingFileError: An image is not there.
        """
        try:
            content = json.loads(index.read_text(encoding='utf-8'))
        except (OSError, ValueError) as error:
            raise BadFileError(f'{index} is not a JSON file that can be read ({error}).') from error
        lists = list(content.values()) if isinstance(content, dict) else [None]
        if not all(isinstance(paths, list) and all(isinstance(path, str) for path in paths) for paths in lists):
            raise BadFileError(f'{index} must be a JSON object from classes to lists of paths: {{"cat": ["a.jpg"]}}.')
        files = {name: [index.parent / Path(path).expanduser() for path in paths] for name, paths in content.items()}
        missing = [path for paths in files.values() for path in paths if not path.is_file()]
        if missing:
            raise MissingFileError(
                f'{len(missing)} images that {index} names are not there, such as {missing[0]}. Relative paths start '
                'from its folder.'
            )
        return cls(f'The index {index}', files)

    def number(self, name: str) -> int:
        """See `References`."""
        return len(self.files.get(name, ()))

    def images(self, name: str, most: int) -> list[np.ndarray]:
        """See `References`; a damaged file raises a BadFileError."""
        return [read_photograph(path) for path in self.files[name][:most]]

    def identity(self, name: str, most: int) -> list[str]:
        """See `References`."""
        return [file_hash(path) for path in self.files[name][:most]]


class VectorReferences:
    """Ready vectors.

    Args:
        path: See `read_vectors`.
    """

    def __init__(self, path: Path) -> None:
        self.where = f'The file {path}'
        self.vectors = {plain(name): vector for name, vector in read_vectors(path).items()}


def load_references(spec: Any) -> References | VectorReferences:
    """What `decode_head.references` names.

    Raises:
        ConfigError: It is nothing of the kind.
        MissingFileError: There is no such folder or file.
        BadFileError: The file cannot be used.
    """
    if isinstance(spec, (References, Mapping)):
        return build_strategy('decode_head.references', spec, References)
    if not isinstance(spec, (str, Path)) or not str(spec):
        raise ConfigError(f'decode_head.references is {spec!r}, but the references of ReCo are {KINDS}.')
    path = place_of(spec).fetch()
    if path.is_dir():
        return FileReferences.of_folder(path)
    return FileReferences.of_index(path) if path.suffix == '.json' else VectorReferences(path)


def plain(name: str) -> str:
    """A name in lower case, with one space wherever spaces, underscores or slashes stand."""
    return ' '.join(name.replace('_', ' ').replace('/', ' ').lower().split())


def to_square(image: np.ndarray, side: int) -> Tensor:
    """The middle of an image (H, W, 3) whose short side is resized to `side` pixels: (3, side, side), float32."""
    height, width = image.shape[:2]
    short = min(height, width)
    if short != side:
        size = (side * width // short, side * height // short)
        image = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
    top, left = (round((length - side) / 2) for length in image.shape[:2])
    square = image[top : top + side, left : left + side].copy()
    return torch.from_numpy(square).permute(2, 0, 1).float()


def _images_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in readable_suffixes())
