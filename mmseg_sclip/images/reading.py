"""One way from an image file to RGB, for the evaluation and for photographs."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import mmcv
import numpy as np
from mmengine import fileio
from PIL import ExifTags, Image, ImageOps

from ..errors import ConfigError, MissingFileError, worker_was_killed
from ..notes import Note
from . import tiff
from .bands import MOST, Raster, over_white, to_rgb
from .files import AS_PICTURE, open_image, orientation, tiff_errors, unusable

AS_STORED = 'color_ignore_orientation'  # MMCV's flag: BGR, not turned by EXIF
_BY_OPENCV = ('PNG', 'BMP', 'WEBP')  # where nothing is transparent, and in 8 bits; JPEG always
_JPEG = ('JPEG', 'MPO')
_PHOTOGRAPH = 'Save it anew as JPEG or PNG with 8 bits, or leave it out.'
_PNG_DEPTH = 24  # where the header of a PNG has its bits per channel


class Decoded(NamedTuple):
    """An image file's content.

    Attributes:
        rgb: (H, W, 3), uint8, as the file stores it.
        orientation: By which it is turned to be upright, see `orientation`.
        plain: Whether OpenCV reads the file in the same way by itself.
    """

    rgb: np.ndarray
    orientation: int | None
    plain: bool = False

    @property
    def upright(self) -> np.ndarray:
        """The picture as it is meant to be seen."""
        return _turn(self.rgb, self.orientation)


def decode(
    content: bytes, path: str | Path, bands: Sequence[int] | None, notes: list[Note], advice: str = ''
) -> Decoded:
    """Read an image file of any kind.

    JPEG, and what OpenCV reads without loss, is decoded as MMSegmentation decodes it. Otherwise grey, palette and CMYK
    pictures become RGB, transparent ones are laid over white, of several pages or frames the first is taken, and what
    `to_rgb` says about bands and about more than 8 bits holds.

    Args:
        content: Of the file.
        path: For messages.
        bands: Which are shown, see `choose_bands`; None for red, green and blue.
        notes: What a user should know is added here.
        advice: What to do about a damaged file, see `open_image`.

    Raises:
        BadFileError: It is damaged, or cannot be used as a picture.
    """
    picture = None if tiff.is_tiff(content) else open_image(content, path, advice)
    try:
        if tiff.is_tiff(content):
            return _decode_tiff(content, path, bands, notes, advice)
        turn = None if picture is None else orientation(picture)
        if bands is None and picture is not None and _is_plain(picture, content):
            return Decoded(np.ascontiguousarray(mmcv.imfrombytes(content, flag=AS_STORED)[..., ::-1]), turn, plain=True)
        raster = None if picture is None or is_deep(picture, content) else _raster_of(picture)
        return Decoded(to_rgb(raster or _raster_by_opencv(content), path, bands, notes), turn)
    except ConfigError as error:
        raise unusable(path, str(error), '' if bands is not None else AS_PICTURE) from error


def read_evaluated(path: str, backend_args: dict | None = None, bands: Sequence[int] | None = None) -> np.ndarray:
    """An image of a dataset as the evaluation reads it: (H, W, 3), uint8, RGB, not turned by EXIF.

    Args:
        path: Of its file.
        backend_args: Of MMEngine's file client.
        bands: See `decode`.
    """
    return decode(fileio.get(path, backend_args=backend_args), path, bands, []).rgb


def read_photograph(
    path: str | Path, bands: Sequence[int] | None = None, notes: list[Note] | None = None
) -> np.ndarray:
    """Read a picture as it is meant to be seen: as `decode` does, and turned by its EXIF orientation.

    Args:
        path: Of its file.
        bands: See `decode`.
        notes: What a user should know is added here.

    Returns:
        (H, W, 3), uint8, RGB.

    Raises:
        MissingFileError: There is no such file.
        BadFileError: It is damaged, or no picture that can be read.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingFileError(f'There is no picture {path.absolute()}. Correct the path.')
    return decode(path.read_bytes(), path, bands, [] if notes is None else notes, _PHOTOGRAPH).upright


def picture_to_rgb(picture: Image.Image, notes: list[Note] | None = None) -> np.ndarray:
    """(H, W, 3) uint8 RGB of an open picture, upright, as `decode` makes it.

    Raises:
        ConfigError: Its values have no known white.
    """
    picture.load()
    name = getattr(picture, 'filename', '') or 'The picture'
    return _turn(to_rgb(_raster_of(picture), name, None, [] if notes is None else notes), orientation(picture))


def array_to_rgb(array: np.ndarray, channel_order: str | None = None) -> np.ndarray:
    """An array as a picture.

    Args:
        array: (H, W) grey, (H, W, 1), (H, W, 3), or (H, W, 4) with alpha last; uint8 or uint16.
        channel_order: 'rgb' or 'bgr', as OpenCV reads; needed where there are colours.

    Returns:
        (H, W, 3), uint8, RGB; transparent pixels are laid over white.

    Raises:
        ConfigError: It is not such an array, or its order is not said.
    """
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4) or not array.size:
        raise ConfigError(
            f'The array has the shape {array.shape}; a picture is (H, W) or (H, W, 3), channels last. Several pictures '
            'are given as a list.'
        )
    if array.dtype not in (np.uint8, np.uint16):
        raise ConfigError(f'The array is {array.dtype}; a picture is uint8 (0..255) or uint16 (0..65535).')
    if array.dtype == np.uint16:
        array = np.rint(array * (MOST[8] / MOST[16])).astype(np.uint8)
    if array.shape[2] == 1:
        return np.repeat(array, 3, axis=2)
    if channel_order not in ('rgb', 'bgr'):
        raise ConfigError(
            f"channel_order is {channel_order!r}. An array does not tell the order of its channels: give 'rgb' "
            "(Pillow, matplotlib, imageio) or 'bgr' (OpenCV, mmcv)."
        )
    colours = array[..., :3] if channel_order == 'rgb' else array[..., 2::-1]
    if array.shape[2] == 4:
        colours = over_white(colours, array[..., 3] / MOST[8])
    return np.ascontiguousarray(colours)


def _decode_tiff(
    content: bytes, path: str | Path, bands: Sequence[int] | None, notes: list[Note], advice: str
) -> Decoded:
    with tiff_errors(path, advice):
        raster = tiff.read_raster(content)
    turn = tiff.orientation(content)
    if raster is None:
        open_image(content, path, advice)  # whether it is whole, which Pillow does not tell
        try:
            picture = Image.open(io.BytesIO(content))
            picture.load()
        except Exception as error:  # Pillow's decoders raise many kinds
            if worker_was_killed(error):
                raise
            raise ConfigError('its kind of colours is not supported') from error
        raster, turn = _raster_of(picture), orientation(picture)  # Pillow turns TIFFs when it loads them
    return Decoded(to_rgb(raster, path, bands, notes), turn)


def _is_plain(picture: Image.Image, content: bytes) -> bool:
    """Whether OpenCV decodes a file correctly."""
    if picture.format not in _BY_OPENCV:
        return picture.format in _JPEG
    return picture.mode in ('RGB', 'L') and not picture.has_transparency_data and not is_deep(picture, content)


def is_deep(picture: Image.Image, content: bytes) -> bool:
    """Whether a file has more bits in its colours than Pillow keeps."""
    if picture.format == 'PNG':
        return content[_PNG_DEPTH] == 16
    if picture.format not in ('JPEG2000', 'PPM') or picture.mode.startswith(('I', 'F')):
        return False
    found = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    return found is not None and found.dtype != np.uint8


def _raster_of(picture: Image.Image) -> Raster:
    """The bands of a decoded picture."""
    if picture.mode[0] in 'IF':  # numbers of 16 or 32 bits
        return Raster(np.asarray(picture)[..., None])
    if picture.has_transparency_data:
        return Raster(np.asarray(picture.convert('RGBA')), 'straight')
    return Raster(np.asarray(picture.convert('RGB')))


def _raster_by_opencv(content: bytes) -> Raster:
    values = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION)
    if values is None:
        raise ConfigError('it is too large')
    if values.ndim == 2:
        return Raster(values[..., None])
    order = [2, 1, 0, 3] if values.shape[2] == 4 else [2, 1, 0]
    return Raster(np.ascontiguousarray(values[..., order]), 'straight' if len(order) == 4 else '')


def _turn(rgb: np.ndarray, orientation: int | None) -> np.ndarray:
    """Turn (H, W, 3) by an EXIF orientation; unknown ones are ignored."""
    if orientation in (None, 1):
        return np.ascontiguousarray(rgb)
    picture = Image.fromarray(np.ascontiguousarray(rgb))
    picture.getexif()[ExifTags.Base.Orientation] = orientation
    return np.asarray(ImageOps.exif_transpose(picture))
