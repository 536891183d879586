"""TIFF files, by rasterio: bands of any number and kind, as satellite images have them."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from PIL import TiffImagePlugin

from .bands import Raster

_STARTS = (b'II*\x00', b'MM\x00*', b'II+\x00', b'MM\x00+')  # the last two have addresses of 64 bits
_ORIENTATION, _COMPRESSION, _EXTRA_SAMPLES = 274, 259, 338
_ALPHA = {1: 'premultiplied', 2: 'straight'}  # what a band is, by the tag of extra samples; 0 is unspecified
JPEG = (6, 7)  # compressions


def is_tiff(content: bytes) -> bool:
    """Whether a file begins as a TIFF does."""
    return content[:4] in _STARTS


@contextmanager
def open_tiff(content: bytes) -> Iterator[Any]:
    """A rasterio dataset of a file's first image.

    Raises:
        rasterio.errors.RasterioError: It is damaged, or needs a codec that is not there.
    """
    import rasterio  # it takes long, and few need it

    logging.getLogger('rasterio').setLevel(logging.CRITICAL)  # what fails is raised, and need not be logged too
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', rasterio.errors.NotGeoreferencedWarning)
        with rasterio.MemoryFile(content) as memory, memory.open(driver='GTiff') as source:
            yield source


def read_raster(content: bytes) -> Raster | None:
    """The bands of a picture; None for what Pillow reads better: palettes, CMYK, YCbCr, fewer than 8 bits."""
    with open_tiff(content) as source:
        structure, kinds = source.tags(ns='IMAGE_STRUCTURE'), [kind.name for kind in source.colorinterp]
        bits = int(source.tags(1, ns='IMAGE_STRUCTURE').get('NBITS', 0))
        inverted = 'MINISWHITE' in structure  # GDAL calls such a band a palette
        if ('palette' in kinds and not inverted) or 0 < bits < 8 or 'SOURCE_COLOR_SPACE' in structure:
            return None
        values = np.ascontiguousarray(source.read().transpose(1, 2, 0))
        white = 2**bits - 1 if bits else None
        if inverted and values.dtype.kind == 'u':
            white = white or np.iinfo(values.dtype).max
            values[..., 0] = white - values[..., 0]
        extra = tag(content, _EXTRA_SAMPLES)  # of the last bands
        extra = extra if isinstance(extra, tuple) else (extra,)
        marked = next((place for place, kind in enumerate(extra, -len(extra)) if kind in _ALPHA), None)
        return Raster(
            values,
            alpha='' if marked is None or source.count == 1 else _ALPHA[extra[marked]],
            alpha_band=-1 if marked is None else marked,
            coloured=kinds[:3] == ['red', 'green', 'blue'],
            white=white,
        )


def tag(content: bytes, number: int) -> Any:
    """The value of a tag of the first image; None where it is not there."""
    try:
        file = io.BytesIO(content)
        directory = TiffImagePlugin.ImageFileDirectory_v2(file.read(16 if content[2:4] in (b'+\x00', b'\x00+') else 8))
        file.seek(directory.next)
        directory.load(file)
        return directory.get(number)
    except Exception:  # of a damaged file, which is said where its pixels are read
        return None


def orientation(content: bytes) -> int | None:
    """From 1 (upright) to 8; None where the file has none."""
    return tag(content, _ORIENTATION)


def is_lossy(content: bytes) -> bool:
    """Whether compression has changed its values."""
    return tag(content, _COMPRESSION) in JPEG
