"""Images as the evaluation sees them, to draw on."""

import mmcv
import numpy as np
from mmengine import fileio


def read_evaluated(path: str, backend_args: dict | None = None) -> np.ndarray:
    """An image of a dataset as the evaluation reads it, not turned by EXIF: (H, W, 3), uint8, RGB.

    Args:
        path: Of its file.
        backend_args: Of MMEngine's file client.
    """
    # MMCV ignores channel_order='rgb' beside this flag.
    image = mmcv.imfrombytes(fileio.get(path, backend_args=backend_args), flag='color_ignore_orientation')
    return np.ascontiguousarray(image[..., ::-1])
