"""The steps of a test pipeline that read images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import mmcv
import numpy as np
from mmcv.transforms import BaseTransform, LoadImageFromFile
from mmengine import fileio
from mmseg.registry import TRANSFORMS

from ..notes import NOTES, Note
from .reading import AS_STORED, decode

_TURNED, _UPRIGHT = 'color', (None, 1)


@TRANSFORMS.register_module()
class LoadImage(LoadImageFromFile):
    """MMCV's `LoadImageFromFile` with this package's reader of files, which photographs go through as well.

    The evaluation uses it in place of `LoadImageFromFile`, since MMCV reads damaged files without a word, multiplies
    colours by what may be near infrared, and has no rule for more than 8 bits. `decode` describes the reader.

    Args:
        bands: Which bands of a file are red, green and blue, or the one that is grey, from 1; None for the file's own.
        color_type: 'color_ignore_orientation' gives an image as its file stores it, so that it fits its label map, and
            'color' turns it by its EXIF tag; other types are read by MMCV.
        **kwargs: Those of `LoadImageFromFile`.

    Raises:
        BadFileError: The file is damaged, or cannot be used as a picture.
    """

    def __init__(self, *args: Any, bands: Sequence[int] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.bands = bands

    def transform(self, results: dict) -> dict | None:
        """Read the file of `img_path`; what a user should know goes to `notes` of the sample."""
        ours = self.color_type in (AS_STORED, _TURNED) and self.imdecode_backend == 'cv2'
        if not ours or self.ignore_empty or self.file_client_args is not None:
            return super().transform(results)
        path, notes = results['img_path'], results.setdefault(NOTES, [])
        decoded = decode(fileio.get(path, backend_args=self.backend_args), path, self.bands, notes)
        turns = self.color_type == _TURNED
        if turns and decoded.orientation not in _UPRIGHT and results.get('seg_map_path') is not None:
            notes.append(turned_note(path, decoded.orientation))
        image = np.ascontiguousarray((decoded.upright if turns else decoded.rgb)[..., ::-1])
        results['img'] = image.astype(np.float32) if self.to_float32 else image
        results['img_shape'] = results['ori_shape'] = image.shape[:2]
        return results


def turned_note(path: str, orientation: int) -> Note:
    """What to say of an image that is turned by EXIF while its label map is not."""
    return Note(
        'turned by EXIF',
        f'{path} has the EXIF orientation {orientation}, by which the test pipeline turns the image, but not its label '
        "map. Set color_type='color_ignore_orientation' in LoadImageFromFile.",
    )


@TRANSFORMS.register_module()
class CheckImageFile(BaseTransform):
    """Refuse damaged files, read what MMCV reads differently, and turn photographs upright that belong to no dataset.

    It stands after `LoadImageFromFile(color_type='color_ignore_orientation')`, which gives images as their files store
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
        decoded = decode(content, path, None, [])
        turns = 'sample_idx' not in results and decoded.orientation not in _UPRIGHT
        if turns or not decoded.plain:
            image = decoded.rgb[..., ::-1]
            if turns:  # decoded as MMSegmentation's drawing functions decode it
                image = mmcv.imfrombytes(content) if decoded.plain else decoded.upright[..., ::-1]
            results['img'] = np.ascontiguousarray(image.astype(results['img'].dtype))
            results['img_shape'] = results['ori_shape'] = image.shape[:2]
        return results


def is_turning(step: Mapping) -> bool:
    """Whether a step that loads images turns them by EXIF."""
    return step.get('color_type', _TURNED) not in (AS_STORED, 'grayscale_ignore_orientation', 'unchanged')
