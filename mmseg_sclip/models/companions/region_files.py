"""Regions from files, as a mask generator has written them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from mmseg.registry import MODELS
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from ...errors import BadFileError, ConfigError, MissingFileError
from ...files import MARK, write_atomically
from ...images import open_image
from ..record import Source
from .regions import RegionMaps, image_name

_MOST = 2**31  # below it, a window and a region have a common number of 64 bits
_MOST_OF_PNG = 2**16
_ADVICE = 'Write the regions of this image anew.'
_MAKE = (
    'Make them with a mask generator, such as Sam2Regions(cache_folder=...) in a run before, or name another folder '
    'with --cfg-options model.companions.regions.folder=FOLDER.'
)


@MODELS.register_module()
class RegionFiles(RegionMaps):
    """The regions of an image are in a file that has its name: FOLDER/photo.png for any/where/photo.jpg.

    A file holds a whole number for each pixel of the image as it is loaded: 0 where there is no region, and the same
    number for all pixels of a region. A PNG has 8 or 16 bits and one channel, a .npy one array (H, W), a .npz only one.

    Args:
        folder: Where the files lie.
        suffix: Of the files.
    """

    def __init__(self, folder: str, suffix: Literal['.png', '.npy', '.npz'] = '.png') -> None:
        super().__init__()
        self.folder = Path(folder).expanduser()
        self.suffix = suffix

    def load(self, weights: bool = True) -> None:
        """See `Companion.load`.

        Raises:
            MissingFileError: There is no such folder.
        """
        if weights and not self.folder.is_dir():
            raise MissingFileError(f'{self.folder}, where regions of images are looked for, is no folder. {_MAKE}')

    def path_of(self, source: Source) -> Path:
        """The file with the regions of an image.

        Raises:
            ConfigError: The image has no name.
        """
        if not source.meta.get('img_path'):
            raise ConfigError(
                'RegionFiles finds the regions of an image by the name of its file, but this image has none. Give '
                'image files, or a companion that makes regions, such as Sam2Regions.'
            )
        return self.folder / f'{Path(source.meta["img_path"]).stem}{self.suffix}'

    def regions(self, source: Source, network: Any) -> Tensor:
        """See `RegionMaps.regions`.

        Raises:
            MissingFileError: There is no such file.
            BadFileError: It is damaged, or holds something else.
        """
        path = self.path_of(source)
        if not path.is_file():
            raise MissingFileError(
                f'The regions of {image_name(source)} are looked for in {path}, which is not there. {_MAKE}'
            )
        return torch.from_numpy(read_regions(path))


def read_regions(path: Path) -> np.ndarray:
    """The region map in a file: (H, W), int64, from 0 on.

    Raises:
        BadFileError: The file is damaged, or holds something else.
    """
    content = path.read_bytes()
    if path.suffix == '.png':
        picture = open_image(content, path, _ADVICE)
        if picture is None or picture.format != 'PNG':
            raise _refused(path, 'is no PNG')
        values = np.asarray(picture)
    else:
        values = _array(path, content)
    if values.ndim != 2 or not values.size:
        raise _refused(path, f'has the shape {values.shape}, where (height, width) was expected')
    if values.dtype.kind not in 'iub':
        raise _refused(path, f'holds {values.dtype}, where whole numbers were expected')
    if values.min() < 0 or values.max() >= _MOST:
        raise _refused(path, f'holds numbers from {values.min()} to {values.max()}; allowed are 0 to {_MOST - 1}')
    return values.astype(np.int64)


def write_regions(path: Path, regions: np.ndarray, **texts: str) -> None:
    """Write a region map (H, W) as PNG, whole or not at all, and not over a file that is not ours.

    Args:
        path: Of the file.
        regions: Whole numbers, 0 to 65535.
        texts: What else the file shall say of itself.

    Raises:
        ConfigError: There are more regions.
        OutputError: It cannot be written.
    """
    if regions.max(initial=0) >= _MOST_OF_PNG:
        raise ConfigError(f'{path}: a PNG holds region numbers up to {_MOST_OF_PNG - 1}, not {regions.max()}.')
    info = PngInfo()
    for name, text in (('Software', MARK), *texts.items()):
        info.add_text(name, text)
    with write_atomically(path) as unfinished:
        Image.fromarray(regions.astype(np.uint16)).save(unfinished, format='PNG', pnginfo=info)


def _array(path: Path, content: bytes) -> np.ndarray:
    try:
        found = np.load(io.BytesIO(content), allow_pickle=False)
        arrays = [found] if isinstance(found, np.ndarray) else [found[name] for name in found.files]
    except Exception as error:  # zip files and headers can be wrong in many ways
        raise BadFileError(f'{path} is damaged or no file of NumPy ({error}). {_ADVICE}') from error
    if len(arrays) != 1:
        raise _refused(path, f'holds {len(arrays)} arrays, where one was expected')
    return arrays[0]


def _refused(path: Path, reason: str) -> BadFileError:
    return BadFileError(
        f'{path} {reason}. A file of regions has a whole number for each pixel of its image, 0 for no region. {_ADVICE}'
    )
