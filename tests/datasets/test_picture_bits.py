"""Numbers of 16 bits and transparent colours in pictures."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from mmseg_sclip.images.reading import array_to_rgb, decode


def test_16_bits_are_rounded_and_not_cut():
    """129 of 65535 are 0.502 of 255; a shift by 8 bits would make 0 of them, and 65280 of 255.0 of 256."""
    values = np.array([[0, 128, 129, 385, 386, 65406, 65407, 65535]], np.uint16)
    wanted = [0, 0, 1, 1, 2, 254, 255, 255]
    assert array_to_rgb(values)[0, :, 0].tolist() == wanted
    content = cv2.imencode('.png', np.repeat(values[..., None], 3, axis=2))[1].tobytes()
    assert decode(content, 'x.png', None, []).rgb[0, :, 0].tolist() == wanted


@pytest.mark.parametrize('mode, transparent', [('RGB', (9, 8, 7)), ('L', 9), ('P', 1)])
def test_a_transparent_colour_is_laid_over_white(mode, transparent):
    if mode == 'P':
        picture = Image.fromarray(np.uint8([[0, 1]]))
        picture.putpalette([1, 2, 3, 9, 8, 7])
        seen = [1, 2, 3]
    else:
        values = np.uint8([[[1, 2, 3], [9, 8, 7]]] if mode == 'RGB' else [[1, 9]])
        picture, seen = Image.fromarray(values), [1, 2, 3] if mode == 'RGB' else [1, 1, 1]
    buffer = io.BytesIO()
    picture.save(buffer, 'PNG', transparency=transparent)
    assert decode(buffer.getvalue(), 'x.png', None, []).rgb.tolist() == [[seen, [255, 255, 255]]]
