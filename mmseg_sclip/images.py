"""Images: read as they are evaluated or as photographs, and packed for a model.

An evaluated image lies as its file stores it, since its ground truth is not turned either. A photograph is turned
upright by its EXIF tag, and becomes 8-bit RGB whatever its file holds.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import mmcv
import numpy as np
from mmcv.transforms import BaseTransform, LoadAnnotations, LoadImageFromFile
from mmengine import fileio
from mmengine.dataset import Compose
from mmseg.registry import TRANSFORMS
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from .checks import is_a
from .errors import BadFileError, ConfigError, MissingFileError, worker_was_killed
from .paths import scenes_root

AS_STORED = 'color_ignore_orientation'  # MMCV's flag: BGR, not turned by EXIF
_SAME_AS_EVALUATION = ('JPEG', 'MPO', 'PNG', 'BMP', 'WEBP')  # read by OpenCV as in the evaluation, to the last bit
_PHOTOGRAPH = 'Save it anew as JPEG or PNG with 8 bits, or leave it out.'
_WHITE = 255
_16_BIT, _8_BIT = 65535, 255


@TRANSFORMS.register_module()
class CheckImageFile(BaseTransform):
    """Refuse damaged files, and turn photographs upright that belong to no dataset.

    It stands behind `LoadImageFromFile(color_type='color_ignore_orientation')`, which gives images as their files store
    them: so they fit the ground truth of a dataset. `inference_model` and `MMSegInferencer` bring photographs from
    anywhere through the same pipeline, and MMSegmentation draws their results on the upright picture.

    Args:
        backend_args: Of MMEngine's file client, as those of `LoadImageFromFile`.

    Raises:
        BadFileError: The file is damaged; see `open_image`.
    """

    def __init__(self, backend_args: dict | None = None) -> None:
        self.backend_args = backend_args

    def transform(self, results: dict) -> dict:
        """Look at the file of `img_path`; an image that came as an array passes as it is."""
        path = results.get('img_path')
        if path is None:
            return results
        content = fileio.get(path, backend_args=self.backend_args)
        picture = open_image(content, path)
        if 'sample_idx' not in results and picture is not None and orientation(picture) not in (None, 1):
            # Decoded as MMSegmentation's drawing functions decode it.
            image = mmcv.imfrombytes(content)
            results['img'] = image.astype(results['img'].dtype)
            results['img_shape'] = results['ori_shape'] = image.shape[:2]
        return results


def read_evaluated(path: str, backend_args: dict | None = None) -> np.ndarray:
    """An image of a dataset as the evaluation reads it: (H, W, 3), uint8, RGB, not turned by EXIF.

    Args:
        path: Of its file.
        backend_args: Of MMEngine's file client.
    """
    image = mmcv.imfrombytes(fileio.get(path, backend_args=backend_args), flag=AS_STORED)
    return np.ascontiguousarray(image[..., ::-1])


def read_photograph(path: str | Path) -> np.ndarray:
    """Read a picture as it is meant to be seen.

    It is turned by its EXIF orientation. Grey, palette and CMYK pictures become RGB, transparent ones are laid over
    white, 16 bits are scaled to 8 (65535 is white), and of several pages or frames the first is taken.

    Returns:
        (H, W, 3), uint8, RGB.

    Raises:
        MissingFileError: There is no such file.
        BadFileError: It is damaged, or no picture that can be read.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingFileError(f'There is no picture {path.absolute()}. Correct the path.')
    content = path.read_bytes()
    picture = open_image(content, path, _PHOTOGRAPH)
    try:
        if picture is None:  # such as TIFF with three channels of 16 bits
            return array_to_rgb(cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED), 'bgr')
        plain = picture.mode in ('RGB', 'L') and not picture.has_transparency_data
        if picture.format in _SAME_AS_EVALUATION and plain:
            return _turn(mmcv.imfrombytes(content, flag=AS_STORED)[..., ::-1], orientation(picture))
        return picture_to_rgb(picture)
    except ConfigError as error:
        raise _damaged(path, str(error), _PHOTOGRAPH) from error


def open_image(content: bytes, path: str | Path, advice: str = '') -> Image.Image | None:
    """Decode a whole image file, which OpenCV does not: it paints what a cut file lacks grey, and says nothing.

    What Pillow decodes counts as whole. So a JPEG whose data was cut but ends with an end mark is not found, nor one
    with exchanged bytes, since JPEG has no checksum.

    Args:
        content: Of the file.
        path: For the message.
        advice: What to do about a damaged file; by default what is right for one of a dataset.

    Returns:
        The decoded picture; None for formats that Pillow lacks and OpenCV reads, and for pictures that are too large
        for Pillow.

    Raises:
        BadFileError: The file is damaged, or no image.
    """
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
        raise _damaged(path, '' if content else 'it is empty', advice) from error
    except Image.DecompressionBombError:
        return None
    except Exception as error:  # Pillow's decoders raise many kinds
        if worker_was_killed(error):
            raise
        raise _damaged(path, str(error), advice) from error


def picture_to_rgb(picture: Image.Image) -> np.ndarray:
    """(H, W, 3) uint8 RGB of an open picture, as `read_photograph` says.

    Raises:
        ConfigError: Its values have no known white.
    """
    picture.load()
    if picture.mode.startswith('I'):  # whole numbers of 16 or 32 bits
        values = np.asarray(picture)
        if values.min() < 0 or values.max() > _16_BIT:
            raise ConfigError(f'Its pixels are whole numbers from {values.min()} to {values.max()}.')
        rgb = array_to_rgb(values.astype(np.uint16))
    elif picture.mode == 'F':
        raise ConfigError('Its pixels are floating-point numbers.')
    elif picture.has_transparency_data:
        rgb = array_to_rgb(np.asarray(picture.convert('RGBA')), 'rgb')
    else:
        rgb = np.asarray(picture.convert('RGB'))
    return _turn(rgb, orientation(picture))


def array_to_rgb(array: np.ndarray, channel_order: str | None = None) -> np.ndarray:
    """An array as a picture.

    Args:
        array: (H, W) grey, (H, W, 1), (H, W, 3), or (H, W, 4) with alpha last; uint8 or uint16.
        channel_order: 'rgb' or 'bgr', as OpenCV reads; needed where there are colours.

    Returns:
        (H, W, 3), uint8, RGB; transparent pixels are laid over white.

    Raises:
        ConfigError: It is no such array, or its order is not said.
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
        array = np.rint(array * (_8_BIT / _16_BIT)).astype(np.uint8)
    if array.shape[2] == 1:
        return np.repeat(array, 3, axis=2)
    if channel_order not in ('rgb', 'bgr'):
        raise ConfigError(
            f"channel_order is {channel_order!r}. An array does not tell the order of its channels: give 'rgb' "
            "(Pillow, matplotlib, imageio) or 'bgr' (OpenCV, mmcv)."
        )
    colours = array[..., :3] if channel_order == 'rgb' else array[..., 2::-1]
    if array.shape[2] == 4:
        alpha = array[..., 3:] / _8_BIT
        colours = np.rint(colours * alpha + _WHITE * (1 - alpha)).astype(np.uint8)
    return np.ascontiguousarray(colours)


def orientation(picture: Image.Image) -> int | None:
    """The EXIF orientation of an open picture, from 1 (upright) to 8; None where it has none."""
    try:
        return picture.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # EXIF written by cameras may be anything, and is no reason to refuse the picture
        return None


def pack_photograph(steps: Sequence[Mapping], rgb: np.ndarray, path: str | Path) -> dict:
    """A photograph as a dataset would give it to the model: `inputs` (3, h, w) BGR, and `data_samples`.

    Args:
        steps: The test pipeline of a config; what reads files in it is left out.
        rgb: (H, W, 3), uint8, from `read_photograph`.
        path: Of its file, or a name for messages.
    """
    sample = dict(img=np.ascontiguousarray(rgb[..., ::-1]), img_path=str(path))
    sample['img_shape'] = sample['ori_shape'] = rgb.shape[:2]
    return Compose(steps_behind_loading(steps))(sample)


def pack_without_truth(steps: Sequence[Mapping], info: dict) -> dict:
    """An image file that has no label map, packed for a model.

    Args:
        steps: The test pipeline of a config.
        info: What a dataset knows of the image, or dict(img_path=...).
    """
    return Compose([step for step in steps if not is_a(TRANSFORMS, step, LoadAnnotations)])(info)


def steps_behind_loading(steps: Sequence[Mapping]) -> list[Mapping]:
    """A test pipeline without what reads images and labels."""
    return [step for step in steps if not is_a(TRANSFORMS, step, LoadImageFromFile, LoadAnnotations, CheckImageFile)]


def _turn(rgb: np.ndarray, orientation: int | None) -> np.ndarray:
    """Turn (H, W, 3) by an EXIF orientation; unknown ones are ignored."""
    if orientation in (None, 1):
        return np.ascontiguousarray(rgb)
    picture = Image.fromarray(np.ascontiguousarray(rgb))
    picture.getexif()[ExifTags.Base.Orientation] = orientation
    return np.asarray(ImageOps.exif_transpose(picture))


def _damaged(path: str | Path, reason: str, advice: str) -> BadFileError:
    reason = reason.rstrip('.')
    if not advice:
        painted = Path(path).absolute().is_relative_to(scenes_root())
        advice = (
            f'Delete {Path(path).parents[1]}, and it is painted again.'
            if painted
            else 'Fetch it again, or take it out of the dataset.'
        )
    return BadFileError(f'{path} is damaged or no image that can be read{reason and f" ({reason})"}. {advice}')
