"""Label maps and other images as PNG files."""

from collections.abc import Sequence

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ..errors import ConfigError
from ..files import MARK
from ..outputs import OutputFolder

MOST_LABELS = 256  # of a PNG with a palette


def save_label_map(folder: OutputFolder, name: str, labels: np.ndarray, palette: Sequence[Sequence[int]]) -> None:
    """Write a PNG of mode P whose pixel values are the labels, and whose palette has their colours.

    Args:
        folder: Where it goes.
        name: Of the file; it ends with .png.
        labels: (H, W), whole numbers in 0..255.
        palette: RGB of every label; those without a colour are black.

    Raises:
        ConfigError: A label does not fit into 8 bits.
        OutputError: The file cannot be written.
    """
    if labels.size and not 0 <= labels.min() <= labels.max() < MOST_LABELS:
        raise ConfigError(
            f'{name}: labels from {labels.min()} to {labels.max()} do not fit into a PNG with a palette, which has '
            f'0 to {MOST_LABELS - 1}.'
        )
    image = Image.fromarray(np.ascontiguousarray(labels, np.uint8))
    colours = np.zeros((MOST_LABELS, 3), np.uint8)  # a shorter palette would change larger labels
    colours[: len(palette)] = np.asarray(palette, np.uint8).reshape(-1, 3)
    image.putpalette(colours.tobytes())
    save_png(folder, name, image)


def save_png(folder: OutputFolder, name: str, image: Image.Image) -> None:
    """Write a PNG that names the program that made it.

    Raises:
        OutputError: The file cannot be written.
    """
    info = PngInfo()
    info.add_text('Software', MARK)
    with folder.write(name) as unfinished:
        image.save(unfinished, format='PNG', pnginfo=info)
