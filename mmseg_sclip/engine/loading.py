"""Loading of evaluation images that does not accept half a file."""

import io

import mmcv
import numpy as np
from mmcv.transforms import LoadImageFromFile
from mmengine import fileio
from mmseg.registry import TRANSFORMS
from PIL import Image, UnidentifiedImageError


@TRANSFORMS.register_module()
class LoadCheckedImage(LoadImageFromFile):
    """MMSeg's loader with two differences: EXIF orientation is ignored, and damaged files are errors.

    Ground truth is not turned by EXIF, so images may not be either. OpenCV decodes a truncated JPEG
    into a picture that is partly grey and says nothing; that would be evaluated silently. Takes the
    arguments of `LoadImageFromFile`.
    """

    def __init__(self, color_type: str = 'color_ignore_orientation', **kwargs) -> None:
        super().__init__(color_type=color_type, **kwargs)

    def transform(self, results: dict) -> dict:
        """Load `img_path`; the result is that of `LoadImageFromFile`.

        Raises:
            OSError: The file is missing, truncated or no image; the message names it.
        """
        path = results['img_path']
        content = fileio.get(path, backend_args=self.backend_args)
        if not _has_end_mark(content):
            decode_strictly(content, path)
        image = mmcv.imfrombytes(content, flag=self.color_type, backend=self.imdecode_backend)
        if image is None:
            raise OSError(f'{path} is damaged or no image. Fetch it again, or take it out of the dataset.')
        results['img'] = image.astype(np.float32) if self.to_float32 else image
        results['img_shape'] = results['ori_shape'] = image.shape[:2]
        return results


def _has_end_mark(content: bytes) -> bool:
    """Whether a JPEG or PNG file ends as it must; a cheap test that good files pass."""
    end = content.rstrip(b'\x00')
    return end.endswith(b'\xff\xd9') or b'IEND' in content[-12:]


def decode_strictly(content: bytes, path: str) -> None:
    """Decode a whole image file, as OpenCV does not.

    Args:
        content: Of the file.
        path: For the message.

    Raises:
        OSError: It is truncated or no image.
    """
    try:
        Image.open(io.BytesIO(content)).load()
    except (OSError, SyntaxError, ValueError) as error:
        reason = '' if isinstance(error, UnidentifiedImageError) else f' ({error})'  # that one shows a memory address
        raise OSError(
            f'{path} is damaged or no image{reason}. Fetch it again, or take it out of the dataset.'
        ) from error
