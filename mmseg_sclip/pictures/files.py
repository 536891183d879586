"""Files that are there whole or not at all."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ..utils import atomic_files

MOST_LABELS = 256  # of a PNG with a palette
_MADE_BY = 'Software', 'mmseg_sclip'


@contextmanager
def write_atomically(path: Path | str) -> Iterator[Path]:
    """As `utils.atomic_files.write_atomically`, with an error that names the file and says what to do."""
    path = Path(path)
    try:
        with atomic_files.write_atomically(path) as unfinished:
            yield unfinished
    except OSError as error:
        raise picture_error(path, error) from error


def picture_error(path: Path, error: OSError) -> OSError:
    """What to say where a file cannot be written."""
    reason = error.strerror or str(error)
    return OSError(f'Cannot write {path} ({reason}). Name a folder that can be written to, with enough space.')


def save_label_map(path: Path | str, labels: np.ndarray, palette: Sequence[Sequence[int]]) -> None:
    """Write a PNG of mode P whose pixel values are the labels, and whose palette has their colours.

    Args:
        path: Ends with .png.
        labels: (H, W), whole numbers in 0..255.
        palette: RGB of every label; those without a colour are black.

    Raises:
        ValueError: A label does not fit into 8 bits.
        OSError: The file cannot be written.
    """
    labels = np.asarray(labels)
    if labels.size and not 0 <= labels.min() <= labels.max() < MOST_LABELS:
        raise ValueError(
            f'{path}: labels from {labels.min()} to {labels.max()} do not fit into a PNG with a palette, which has '
            f'0 to {MOST_LABELS - 1}.'
        )
    image = Image.fromarray(np.ascontiguousarray(labels, np.uint8))
    colours = np.zeros((MOST_LABELS, 3), np.uint8)
    colours[: len(palette)] = np.asarray(palette, np.uint8).reshape(-1, 3)
    image.putpalette(colours.tobytes())
    save_png(path, image)


def save_png(path: Path | str, image: Image.Image) -> None:
    """Write a PNG that says by which program it was made.

    Raises:
        OSError: The file cannot be written.
    """
    info = PngInfo()
    info.add_text(*_MADE_BY)
    with write_atomically(path) as unfinished:
        image.save(unfinished, format='PNG', pnginfo=info)


def is_own_png(path: Path | str) -> bool:
    """Whether a file was written by `save_png`, so that it may be written again and is no photograph."""
    key, value = _MADE_BY
    try:
        with Image.open(path) as image:
            return image.format == 'PNG' and image.info.get(key) == value
    except Exception:  # Pillow raises many kinds on what is no picture
        return False
