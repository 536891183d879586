"""Labels in colours, alone or over the picture."""

from collections.abc import Sequence

import numpy as np

IGNORE = 255  # MMSeg's mark of pixels without a label


def paint(labels: np.ndarray, palette: Sequence[Sequence[int]], ignore: int | None = IGNORE) -> np.ndarray:
    """Each pixel in the colour of its label.

    Args:
        labels: (H, W), whole numbers.
        palette: RGB of every label.
        ignore: The label of pixels that have none, which become black; None where all pixels have one.

    Returns:
        (H, W, 3), uint8, RGB.

    Raises:
        ValueError: A label has no colour.
    """
    labels = np.asarray(labels)
    table = np.asarray(palette, np.uint8).reshape(-1, 3)
    known = np.ones(labels.shape, bool) if ignore is None else labels != ignore
    used = labels[known]
    if used.size and not 0 <= used.min() <= used.max() < len(table):
        wrong = sorted({int(label) for label in np.unique(used) if not 0 <= label < len(table)})
        raise ValueError(f'The labels {wrong} have no colour: the palette has those of 0 to {len(table) - 1}.')
    colours = np.zeros((*labels.shape, 3), np.uint8)
    colours[known] = table[used]
    return colours


def blend(
    image: np.ndarray,
    labels: np.ndarray,
    palette: Sequence[Sequence[int]],
    opacity: float = 0.5,
    ignore: int | None = IGNORE,
) -> np.ndarray:
    """A picture with its labels over it.

    Args:
        image: (H, W, 3), uint8, RGB.
        labels: (H, W), whole numbers.
        palette: RGB of every label.
        opacity: Share of the label's colour, 0..1.
        ignore: Pixels with this label show the plain picture; None where all pixels have a label.

    Returns:
        (H, W, 3), uint8, RGB: (1 - opacity) * image + opacity * colour, rounded.

    Raises:
        ValueError: The sizes differ, or a label has no colour.
    """
    if image.shape != (*labels.shape, 3):
        raise ValueError(f'The picture is {image.shape} and its labels are {labels.shape}; they must be one size.')
    mixed = mix(image, paint(labels, palette, ignore), opacity)
    if ignore is not None:
        plain = labels == ignore
        mixed[plain] = image[plain]
    return mixed


def mix(image: np.ndarray, colours: np.ndarray, opacity: float) -> np.ndarray:
    """(1 - opacity) * image + opacity * colours, rounded, both (H, W, 3) uint8."""
    return np.rint((1 - opacity) * image.astype(np.float32) + opacity * colours).astype(np.uint8)
