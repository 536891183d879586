"""What a user may name as pictures: files, folders, globs, arrays, and lists of them."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.logging import print_log
from PIL import Image

from ..errors import ConfigError, MissingFileError
from ..files import is_ours
from ..images import array_to_rgb, picture_to_rgb, read_photograph, readable_suffixes
from ..notes import Note

Picture = str | np.ndarray | Image.Image
SUFFIXES = readable_suffixes()
_WILD = '*?['


def list_pictures(given: Any) -> list[Picture]:
    """All pictures that are meant, in order; those of folders and globs are sorted by name.

    Args:
        given: A path, a folder (its pictures, not those of folders inside), a glob (`**` for folders of any
            depth; a folder that is there is taken by its name, brackets included), an array, a Pillow image, or a
            list of these. Results that lie in a folder are left out.

    Raises:
        MissingFileError: A file is missing, or a folder or glob holds no picture.
        TypeError: Something is neither a path nor a picture.
        ConfigError: Nothing is given.
    """
    if isinstance(given, (str, os.PathLike)):
        return _expand(os.fspath(given))
    if isinstance(given, (np.ndarray, Image.Image)):
        return [given]
    if isinstance(given, (list, tuple)):
        if not given:
            raise ConfigError('The list of pictures is empty. Name a file, a folder or a glob.')
        return [picture for item in given for picture in list_pictures(item)]
    raise TypeError(
        f'A picture is given as {type(given).__name__}; it must be a path, a folder, a glob, a NumPy array (H, W, 3), '
        'a Pillow image, or a list of these.'
    )


def read_picture(
    picture: Picture, channel_order: str | None, bands: Sequence[int] | None, notes: list[Note]
) -> np.ndarray:
    """(H, W, 3) uint8 RGB of a picture of `list_pictures`, upright.

    Args:
        picture: The picture.
        channel_order: 'rgb' or 'bgr', of arrays.
        bands: Which bands of files are shown; None for their colours.
        notes: What a user should know is added here.
    """
    if isinstance(picture, str):
        return read_photograph(picture, bands, notes)
    if isinstance(picture, Image.Image):
        return picture_to_rgb(picture, notes)
    return array_to_rgb(picture, channel_order)


def _expand(name: str) -> list[str]:
    path = Path(name).expanduser()
    if os.path.isdir(path):  # unlike pathlib's it accepts a name that is too long
        return _pictures_among(sorted(path.iterdir()), f'The folder {path.absolute()}')
    if os.path.exists(path):
        return [str(path)]
    if any(character in name for character in _WILD):
        return _pictures_among(_matches(path), f'The glob {name}, tried in {Path.cwd()},')
    raise MissingFileError(f'There is no picture {path.absolute()}. Correct the path.')


def _matches(pattern: Path) -> list[Path]:
    """The files that a glob finds; the name of a folder that exists is taken as it is, brackets included."""
    folder = next(parent for parent in pattern.parents if os.path.isdir(parent))
    by_name = Path(glob.escape(str(folder)), pattern.relative_to(folder))
    for reading in dict.fromkeys((str(by_name), str(pattern), str(pattern).replace('[', '[[]'))):
        if found := sorted(map(Path, glob.glob(reading, recursive=True))):
            return found
    return []


def _pictures_among(paths: Sequence[Path], where: str) -> list[str]:
    files = [path for path in paths if path.is_file() and not path.name.startswith('.')]
    pictures = [str(path) for path in files if path.suffix.lower() in SUFFIXES and not is_ours(path)]
    taken = set(pictures)
    others = [path.name for path in files if str(path) not in taken]
    if not pictures:
        raise MissingFileError(
            f'{where} holds no picture{_among(others)}. Pictures end with {", ".join(SUFFIXES)}; name others one '
            'by one.'
        )
    if others:
        print_log(f'{where} holds {len(pictures)} pictures{_among(others)}, left out.', logger='current')
    return pictures


def _among(others: Sequence[str]) -> str:
    if not others:
        return ''
    files = 'file' if len(others) == 1 else 'files'
    return f' and {len(others)} other {files} ({", ".join(others[:3])}{", ..." if len(others) > 3 else ""})'
