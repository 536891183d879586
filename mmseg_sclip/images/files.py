"""Image files: which formats can be read, and whether a file is whole."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from ..errors import BadFileError, worker_was_killed
from ..paths import scenes_root
from . import tiff

# Suffixes that Pillow lists, but that need another program to decode or hold no picture.
_NOT_READ = ('BUFR', 'EPS', 'GRIB', 'HDF5', 'MPEG', 'WMF', 'FITS')
AS_PICTURE = 'Save it as PNG or TIFF with 8 bits.'
# The beginnings of whole files that neither Pillow nor OpenCV reads.
_OTHER_FORMATS = {
    'HEIF': re.compile(rb'....ftyp(hei|hev|mif1|msf1)', re.DOTALL),
    'JPEG XL': re.compile(rb'\xff\x0a|\x00\x00\x00\x0cJXL '),
    'SVG': re.compile(rb'\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)?<svg', re.DOTALL),
    'PDF': re.compile(rb'%PDF'),
    'PostScript': re.compile(rb'%!PS'),
    'DICOM': re.compile(rb'.{128}DICM', re.DOTALL),
    'FITS': re.compile(rb'SIMPLE  ='),
    'NumPy': re.compile(rb'\x93NUMPY'),
    'HDF5': re.compile(rb'\x89HDF'),
    'raw camera data': re.compile(rb'FUJIFILMCCD-RAW|....ftypcrx|II(RO|U\x00)', re.DOTALL),
}


@cache
def readable_suffixes() -> tuple[str, ...]:
    """The suffixes, in lower case, of all files that can be read as images."""
    found = Image.registered_extensions()  # loads all of Pillow's formats
    return tuple(sorted(suffix for suffix, kind in found.items() if kind in Image.OPEN and kind not in _NOT_READ))


def open_image(content: bytes, path: str | Path, advice: str = '') -> Image.Image | None:
    """Decode a whole image file, which OpenCV does not: it paints what a cut file lacks grey, and says nothing.

    What Pillow decodes counts as whole. So a JPEG whose data was cut but ends with an end mark is not found, nor one
    with exchanged bytes, since JPEG has no checksum.

    Args:
        content: Of the file.
        path: For the message.
        advice: What to do about a damaged file; by default what is right for one of a dataset.

    Returns:
        The decoded picture; None for TIFF, which rasterio reads, for other formats that Pillow lacks and others read,
        and for pictures that are too large for Pillow.

    Raises:
        BadFileError: The file is damaged, or no image.
    """
    if tiff.is_tiff(content):
        with tiff_errors(path, advice), tiff.open_tiff(content) as source:
            source.read()
        return None
    if content.startswith(b'\xff\xd8'):
        content = content.rstrip(b'\x00')  # Pillow takes the zeros of an unfinished download for data
    try:
        Image.open(io.BytesIO(content)).verify()  # the checksums of a PNG
        picture = Image.open(io.BytesIO(content))
        picture.load()
        return picture
    except UnidentifiedImageError as error:
        if content and cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED) is not None:
            return None
        refuse_other_formats(content, path)
        raise damaged(path, '' if content else 'it is empty', advice) from error
    except Image.DecompressionBombError:
        return None
    except Exception as error:  # Pillow's decoders raise many kinds
        if worker_was_killed(error):
            raise
        raise damaged(path, str(error), advice) from error


@contextmanager
def tiff_errors(path: str | Path, advice: str = '') -> Iterator[None]:
    """Say what is wrong with a TIFF that rasterio cannot read inside; arguments and errors as in `open_image`."""
    try:
        yield
    except Exception as error:
        if worker_was_killed(error):
            raise
        reason = re.sub(r'^\S+\.tif(, band \d+)?: ', '', str(error.__cause__ or error))
        if 'codec' in reason or 'ompression' in reason:
            raise unusable(path, f'it is a TIFF, of which is said: {reason}') from error
        raise damaged(path, reason, advice) from error


def refuse_other_formats(content: bytes, path: str | Path) -> None:
    """Refuse a file that is whole, and of a format that is not supported.

    Raises:
        BadFileError: The file has such a format.
    """
    for name, start in _OTHER_FORMATS.items():
        if start.match(content[:512]):
            raise unusable(path, f'it is {name}, which is not supported')


def orientation(picture: Image.Image) -> int | None:
    """The EXIF orientation of an open picture, from 1 (upright) to 8; None where it has none."""
    try:
        return picture.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # EXIF written by cameras may be anything, and is not a reason to refuse the picture
        return None


def damaged(path: str | Path, reason: str, advice: str = '') -> BadFileError:
    """The error of a file that is damaged, or is not an image.

    Args:
        path: Of the file.
        reason: Why, if that is known.
        advice: What to do; by default what is right for a file of a dataset.
    """
    reason = reason.rstrip('.')
    if not advice:
        painted = Path(path).absolute().is_relative_to(scenes_root())
        advice = (
            f'Delete {Path(path).parents[1]}, and it is painted again.'
            if painted
            else 'Fetch it again, or take it out of the dataset.'
        )
    return BadFileError(f'{path} is damaged or no image that can be read{reason and f" ({reason})"}. {advice}')


def unusable(path: str | Path, reason: str, advice: str = AS_PICTURE) -> BadFileError:
    """The error of a file that is whole, and cannot be used as an image.

    Args:
        path: Of the file.
        reason: Why.
        advice: What to do.
    """
    reason = reason.rstrip('.')
    return BadFileError(f'{path} cannot be used as an image: {reason}. {advice}'.rstrip())
