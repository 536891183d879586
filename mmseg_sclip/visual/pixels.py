"""Labels, heat and marks as pixels: alone, or over the image."""

from collections.abc import Sequence

import cv2
import matplotlib
import numpy as np
from PIL import Image, ImageDraw
from torch import Tensor

HEAT = 'turbo'  # matplotlib's colour map: blue is low, red is high
POINT_COLOUR = (255, 0, 255)  # no heat has it
NO_CLASS, NO_CLASS_COLOUR = -1, (255, 255, 255)  # stands for every label that is not a class
_PALE = 0.65  # share of white
_STRIPES = 48  # of the longer side, where a prediction is wrong
_DARK, WRONG = (40, 40, 40), (130, 130, 130)  # its stripes


def packed_pixels(inputs: Tensor) -> np.ndarray:
    """(H, W, 3) uint8 RGB of what a pipeline has packed for a model, (3, H, W) BGR."""
    return np.ascontiguousarray(inputs.cpu().numpy()[::-1].transpose(1, 2, 0))


def evaluated_pixels(pixels: np.ndarray, inputs: Tensor, shape: Sequence[int]) -> np.ndarray:
    """The picture that belongs to labels: the whole file, or the part of it that the model has seen.

    Args:
        pixels: (H, W, 3), uint8, RGB, of the file.
        inputs: What the pipeline has packed for the model, see `packed_pixels`.
        shape: (h, w) of the labels.
    """
    if pixels.shape[:2] != tuple(shape):
        pixels = packed_pixels(inputs)
    if pixels.shape[:2] != tuple(shape):
        pixels = cv2.resize(pixels, tuple(shape)[::-1], interpolation=cv2.INTER_AREA)
    return pixels


def paint(labels: np.ndarray, palette: Sequence[Sequence[int]]) -> np.ndarray:
    """Each pixel in the colour of its class; white where its label is not a class, such as 255 in ground truth.

    Args:
        labels: (H, W), whole numbers.
        palette: RGB of every class.

    Returns:
        (H, W, 3), uint8, RGB.
    """
    table = np.array([*palette, NO_CLASS_COLOUR], np.uint8)
    labels = labels.astype(np.int64)
    return table[np.where((labels >= 0) & (labels < len(palette)), labels, len(palette))]


def blend(image: np.ndarray, colours: np.ndarray, opacity: float) -> np.ndarray:
    """(1 - opacity) * image + opacity * colours, rounded; both (H, W, 3) uint8."""
    return np.rint((1 - opacity) * image.astype(np.float32) + np.float32(opacity) * colours).astype(np.uint8)


def pale(image: np.ndarray) -> np.ndarray:
    """An image (H, W, 3) uint8 mixed with white, so that what is drawn next to it stands out."""
    return blend(image, np.full_like(image, 255), _PALE)


def heat(image: np.ndarray, values: np.ndarray, high: float, opacity: float = 0.6) -> np.ndarray:
    """Values as colours over an image.

    Args:
        image: (H, W, 3), uint8, RGB.
        values: (H, W), from 0; nan leaves the image pale.
        high: The value of the last colour.
        opacity: Share of the colours, 0..1.

    Returns:
        (H, W, 3), uint8, RGB.
    """
    outside = np.isnan(values)
    scaled = np.where(outside, 0, values) / max(high, np.finfo(np.float32).tiny)
    mixed = blend(image, matplotlib.colormaps[HEAT](scaled, bytes=True)[..., :3], opacity)
    return np.where(outside[..., None], pale(image), mixed)


def errors(image: np.ndarray, wrong: np.ndarray, ignored: np.ndarray) -> np.ndarray:
    """Where a prediction is wrong, in greys, which no class has: black stripes over the pale grey image.

    Args:
        image: (H, W, 3), uint8, RGB.
        wrong: (H, W), bool.
        ignored: (H, W), bool: pixels that are not counted, white.

    Returns:
        (H, W, 3), uint8, RGB.
    """
    height, width = wrong.shape
    y, x = np.ogrid[:height, :width]
    period = max(4, max(height, width) // _STRIPES)
    stripes = np.where(((x + y) % period < period // 2)[..., None], _DARK, WRONG)
    grey = pale(np.repeat(image.mean(axis=-1, keepdims=True).astype(np.uint8), 3, axis=-1))
    shown = np.where(wrong[..., None], stripes, grey)
    return np.where(ignored[..., None], 255, shown).astype(np.uint8)


def mark(image: np.ndarray, point: tuple[int, int]) -> np.ndarray:
    """An image (H, W, 3) uint8 with a magenta disc in a white and a black ring, centred on the pixel (x, y)."""
    radius = max(2, round(min(image.shape[:2]) / 80))
    ring = max(1, radius // 3)
    marked = Image.fromarray(image)
    draw = ImageDraw.Draw(marked)
    x, y = point
    for reach, colour in ((radius + 2 * ring, 'black'), (radius + ring, 'white'), (radius, POINT_COLOUR)):
        draw.ellipse((x - reach, y - reach, x + reach, y + reach), fill=colour)
    return np.asarray(marked)
