"""From the bands of a file to a picture: which bands are shown, what is transparent, and which value is white."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..errors import ConfigError
from ..notes import Note

MOST = {8: 255, 12: 4095, 16: 65535}  # the value of white, by the number of bits that are in use
_DARK = 16383  # a picture of 16 bits whose largest value is at most this one is nearly black
_SHADES = 16  # a mask of what is shown has fewer different values between its ends
_WHITE = 255
_CHOOSE = 'choose with --bands (or LoadImage(bands=(1, 2, 3)) in the test pipeline)'


class Raster(NamedTuple):
    """The bands of an image file as it stores them.

    Attributes:
        values: (H, W, C), whole or floating-point numbers.
        alpha: How a band is marked: 'straight' or 'premultiplied' transparency, or '' for none.
        alpha_band: The index of that band.
        coloured: Whether the file says that its first three bands are red, green and blue.
        white: The value of white, where the file tells it.
    """

    values: np.ndarray
    alpha: str = ''
    coloured: bool = True
    white: int | None = None
    alpha_band: int = -1


def choose_bands(bands: Sequence[int], count: int) -> list[int]:
    """Indices of chosen bands, from 0.

    Args:
        bands: One number, or those of red, green and blue, from 1.
        count: Number of bands that there are.

    Raises:
        ConfigError: The file does not have that band.
    """
    bands = [bands] if isinstance(bands, int) else list(bands)
    if len(bands) not in (1, 3) or not all(isinstance(band, int) and 1 <= band <= count for band in bands):
        raise ConfigError(
            f'The bands {" ".join(map(str, bands))} cannot be taken from {count}. Name one band, or those of red, '
            f'green and blue, each a number from 1 to {count}.'
        )
    return [band - 1 for band in bands]


def to_rgb(raster: Raster, path: object, bands: Sequence[int] | None, notes: list[Note]) -> np.ndarray:
    """A picture of a file's bands.

    A band that is marked as transparency lays the picture over white, unless it varies as a picture does, as near
    infrared does that some programs mark so. Of other bands beyond three, the first three are red, green and blue.

    Args:
        raster: The bands.
        path: Of the file, for notes.
        bands: Which are shown, see `choose_bands`; None for the rules above.
        notes: What a user should know is added here.

    Returns:
        (H, W, 3), uint8, RGB.

    Raises:
        ConfigError: Nobody can know which band is which, or which value is white.
    """
    values, alpha = raster.values, None
    if bands is not None:
        values = values[..., choose_bands(bands, values.shape[2])]
    else:
        if raster.alpha:
            alpha = values[..., raster.alpha_band]
            values = np.delete(values, raster.alpha_band, axis=2)
            alpha = _transparency(alpha, values.shape[2], path, notes)
        values = _first_three(values, raster.coloured, path, notes)
    values = _to_8_bits(values, raster.white, path, notes)
    if values.shape[2] == 1:
        values = np.repeat(values, 3, axis=2)
    if alpha is not None:
        values = over_white(values, alpha, raster.alpha == 'premultiplied')
    return np.ascontiguousarray(values)


def over_white(colours: np.ndarray, alpha: np.ndarray, premultiplied: bool = False) -> np.ndarray:
    """(H, W, 3) uint8 colours with the transparency (H, W) in 0..1, laid over white."""
    alpha = alpha[..., None]
    return np.rint(np.clip(colours * (1 if premultiplied else alpha) + _WHITE * (1 - alpha), 0, 255)).astype(np.uint8)


def _transparency(alpha: np.ndarray, colours: int, path: object, notes: list[Note]) -> np.ndarray | None:
    """The marked transparency in 0..1; None where nothing is transparent, or where the band holds a picture."""
    full = np.iinfo(alpha.dtype).max if alpha.dtype.kind in 'iu' else 1
    if (alpha == full).all():
        return None
    between = (alpha > 0) & (alpha < full)
    bands = ' '.join(map(str, range(1, colours + 1)[:3]))
    how = f'--bands {bands} takes the colours as they are; save {path} without that band where it is not needed'
    if not alpha.any():
        notes.append(Note('invisible', f'{path} marks all pixels as transparent, which is not meant: {how}.'))
        return None
    if between.mean() > 0.5 and len(np.unique(alpha)) > _SHADES:
        text = (
            f'A band of {path} is marked as transparency, but varies as a picture does. It is taken for a band, '
            f'such as near infrared, and left out: {how}.'
        )
        notes.append(Note('band marked as transparency', text))
        return None
    notes.append(Note('transparency', f'{path} has transparent pixels, which are laid over white: {how}.'))
    return alpha / full


def _first_three(values: np.ndarray, coloured: bool, path: object, notes: list[Note]) -> np.ndarray:
    count = values.shape[2]
    if count == 2:
        raise ConfigError(f'It has 2 bands, of which none is marked as a colour or as transparency: {_CHOOSE}.')
    if count > 3 or (count == 3 and not coloured):
        text = f'{path} has {count} bands, of which 1, 2 and 3 are taken for red, green and blue; {_CHOOSE}.'
        notes.append(Note('bands', text))
    return values[..., :3] if count > 3 else values


def _to_8_bits(values: np.ndarray, white: int | None, path: object, notes: list[Note]) -> np.ndarray:
    """Values as uint8. Whole numbers use 8, 12 or 16 bits: as few as hold the largest value of the file."""
    if values.dtype == np.uint8:
        return values
    if values.dtype.kind not in 'iu':
        raise ConfigError(
            f'Its pixels are floating-point numbers ({values.dtype}), and the value of white is not known.'
        )
    least, most = int(values.min()), int(values.max())
    if least < 0 or most > MOST[16]:
        raise ConfigError(f'Its pixels are whole numbers from {least} to {most}, and the value of white is not known.')
    if white is None:
        white = next(value for value in MOST.values() if most <= value)
        if white < MOST[16]:
            notes.append(
                Note(
                    f'white {white}',
                    f'{path} holds values up to {most} in {values.dtype.itemsize * 8} bits, so {white} is taken for '
                    'white. Images whose largest value is above that are scaled differently: save all of them with 8 '
                    'bits where that matters.',
                )
            )
        elif most <= _DARK:
            text = (
                f'{path} holds values up to {most} in 16 bits, of which 65535 is white, so the picture is dark. Scale '
                'it to 8 bits as it is meant to be seen.'
            )
            notes.append(Note('dark', text))
    return np.rint(values * (255 / white)).clip(max=255).astype(np.uint8)  # int8 cannot be compared with 255
