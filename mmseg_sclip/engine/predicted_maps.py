"""The label maps of `--out`: predictions as PNG, with the numbers that the dataset stores."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from ..files import MARK
from ..outputs import OutputFolder
from .label_size import labels_at

SUFFIX = '.png'
_LARGEST_OF_8_BITS = 255


def write_prediction(folder: OutputFolder, sample: Mapping, labels: Tensor, classes: int) -> None:
    """Write a label map; the labels of a dataset with `reduce_zero_label` are raised by one, as it stores them.

    Args:
        folder: One that cannot be written counts the file as unwritten.
        sample: With `img_path`, and `ori_shape` where the labels may have another size.
        labels: (h, w), predicted classes.
        classes: Their number, which settles the bits of all files.
    """
    labels = labels_at(labels, sample.get('ori_shape', labels.shape), sample).cpu().numpy()
    reduced = bool(sample.get('reduce_zero_label', False))
    labels = labels + 1 if reduced else labels
    # One kind of file for all images; with `reduce_zero_label` 255 would be read as no label.
    largest = classes - 1 + reduced
    dtype = np.uint8 if largest <= _LARGEST_OF_8_BITS - reduced else np.uint16
    mark = PngInfo()
    mark.add_text('Software', MARK)
    with folder.attempt(folder.name(sample['img_path'], SUFFIX) + SUFFIX) as unfinished:
        Image.fromarray(labels.astype(dtype)).save(unfinished, pnginfo=mark)
