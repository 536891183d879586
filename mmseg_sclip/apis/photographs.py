"""Reading a user's own pictures, of any kind, as 8-bit RGB, upright."""

import io
from pathlib import Path

import cv2
import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from ..engine.loading import LoadCheckedImage, decode_strictly

_SAME_AS_EVALUATION = ('JPEG', 'MPO', 'PNG', 'BMP', 'WEBP')  # read by OpenCV as in `tools/test.py`, to the last bit
_WHITE = 255
_16_BIT, _8_BIT = 65535, 255


def read_photograph(path: str | Path) -> np.ndarray:
    """Read a picture as it is meant to be seen.

    Unlike an evaluation image, whose ground truth is not turned either, it is turned by its EXIF orientation.
    Grey, palette and CMYK pictures become RGB, transparent ones are laid over white, 16 bits are scaled to 8
    (65535 is white), and of several pages or frames the first is taken.

    Returns:
        (H, W, 3), uint8, RGB.

    Raises:
        FileNotFoundError: There is no such file.
        OSError: It is damaged, or no picture that can be read; the message names it.
    """
    path = str(path)
    if not Path(path).is_file():
        raise FileNotFoundError(f'There is no picture {Path(path).absolute()}. Correct the path.')
    content = Path(path).read_bytes()
    try:
        with Image.open(io.BytesIO(content)) as opened:
            return _read(opened, content, path)
    except UnidentifiedImageError:
        return _read_with_opencv(content, path)
    except Image.DecompressionBombError as error:
        raise OSError(f'{path} is too large to be read safely ({error}). Make it smaller.') from error
    except (OSError, SyntaxError, ValueError) as error:  # Pillow's decoders name no file
        if path in str(error):
            raise
        raise _unreadable(path, str(error)) from error


def picture_to_rgb(picture: Image.Image) -> np.ndarray:
    """(H, W, 3) uint8 RGB of an open picture, as `read_photograph` says.

    Raises:
        ValueError: Its values have no known white.
    """
    picture.load()
    orientation = _orientation(picture)
    if picture.mode.startswith('I'):  # whole numbers of 16 or 32 bits
        rgb = array_to_rgb(_as_16_bit(np.asarray(picture)))
    elif picture.mode == 'F':
        raise ValueError('its pixels are floating-point numbers')
    elif picture.has_transparency_data:
        rgb = array_to_rgb(np.asarray(picture.convert('RGBA')), 'rgb')
    else:
        rgb = np.asarray(picture.convert('RGB'))
    return _turn(rgb, orientation)


def array_to_rgb(array: np.ndarray, channel_order: str | None = None) -> np.ndarray:
    """An array as a picture.

    Args:
        array: (H, W) grey, (H, W, 1), (H, W, 3), or (H, W, 4) with alpha last; uint8 or uint16.
        channel_order: 'rgb' or 'bgr', as OpenCV reads; needed where there are colours.

    Returns:
        (H, W, 3), uint8, RGB; transparent pixels are laid over white.

    Raises:
        ValueError: It is no such array, or its order is not said.
    """
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4) or not array.size:
        raise ValueError(
            f'The array has the shape {array.shape}; a picture is (H, W) or (H, W, 3), channels last. Several pictures '
            'are given as a list.'
        )
    if array.dtype not in (np.uint8, np.uint16):
        raise ValueError(f'The array is {array.dtype}; a picture is uint8 (0..255) or uint16 (0..65535).')
    if array.dtype == np.uint16:
        array = np.rint(array * (_8_BIT / _16_BIT)).astype(np.uint8)
    if array.shape[2] == 1:
        return np.repeat(array, 3, axis=2)
    if channel_order not in ('rgb', 'bgr'):
        raise ValueError(
            f"channel_order is {channel_order!r}. An array does not tell the order of its channels: give 'rgb' "
            "(Pillow, matplotlib, imageio) or 'bgr' (OpenCV, mmcv)."
        )
    colours = array[..., :3] if channel_order == 'rgb' else array[..., 2::-1]
    if array.shape[2] == 4:
        alpha = array[..., 3:] / _8_BIT
        colours = np.rint(colours * alpha + _WHITE * (1 - alpha)).astype(np.uint8)
    return np.ascontiguousarray(colours)


def _read(opened: Image.Image, content: bytes, path: str) -> np.ndarray:
    image = None
    if opened.format in _SAME_AS_EVALUATION:
        image = LoadCheckedImage().transform(dict(img_path=path))['img']  # its checks are wanted in any case
    if image is not None and opened.mode in ('RGB', 'L') and not opened.has_transparency_data:
        return _turn(np.ascontiguousarray(image[..., ::-1]), _orientation(opened))
    decode_strictly(content, path)
    return picture_to_rgb(opened)


def _read_with_opencv(content: bytes, path: str) -> np.ndarray:
    """Some formats that Pillow lacks, such as TIFF with three channels of 16 bits."""
    array = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED) if content else None
    if array is None:
        raise _unreadable(path, '' if content else 'it is empty')
    return array_to_rgb(array, 'bgr')


def _unreadable(path: str, reason: str) -> OSError:
    return OSError(
        f'{path} is damaged or no picture that can be read{reason and f" ({reason})"}. Save it anew as JPEG or PNG '
        'with 8 bits, or leave it out.'
    )


def _as_16_bit(values: np.ndarray) -> np.ndarray:
    if values.min() < 0 or values.max() > _16_BIT:
        raise ValueError(f'its pixels are whole numbers from {values.min()} to {values.max()}')
    return values.astype(np.uint16)


def _orientation(picture: Image.Image) -> int | None:
    try:
        return picture.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # EXIF written by cameras may be anything, and is no reason to refuse the picture
        return None


def _turn(rgb: np.ndarray, orientation: int | None) -> np.ndarray:
    """Turn (H, W, 3) by an EXIF orientation; unknown ones are ignored."""
    if orientation in (None, 1):
        return rgb
    picture = Image.fromarray(rgb)
    picture.getexif()[ExifTags.Base.Orientation] = orientation
    return np.asarray(ImageOps.exif_transpose(picture))
