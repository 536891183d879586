"""Text in pictures, in any script that an installed font has."""

from collections.abc import Iterator
from functools import cache
from itertools import groupby
from pathlib import Path

import matplotlib
from matplotlib import font_manager
from matplotlib.ft2font import FT2Font
from mmengine.logging import print_log
from PIL import ImageDraw, ImageFont

from .colours import Colour

# Ships with matplotlib, so it is everywhere: Latin, Greek, Cyrillic, Arabic, ...
_BUNDLED = Path(matplotlib.get_data_path()) / 'fonts' / 'ttf' / 'DejaVuSans.ttf'
_SYMBOLS = ('Last Resort', 'LastResort')  # macOS's font that has a box for every character


def text_size(text: str, size: int) -> tuple[int, int]:
    """(width, height) in pixels of one line of text; all lines of a `size` have one height."""
    width = sum(round(_font(path, size).getlength(run)) for path, run in _runs(text))
    return width + bool(width), round(1.3 * size)  # the last letter's soft edge may reach one pixel further


def is_readable(text: str) -> bool:
    """Whether every character of a text is in an installed font."""
    return all(character.isspace() or character in _covered(_font_of(character)) for character in text)


def draw_text(draw: ImageDraw.ImageDraw, at: tuple[float, float], text: str, size: int, colour: Colour) -> None:
    """Draw one line of text.

    Args:
        draw: Of the picture.
        at: (left, top) of the line's box, whose size is `text_size`.
        text: In any script. A character that no installed font has is drawn as a box.
        size: Of the font, in pixels.
        colour: RGB.
    """
    left, top = at
    for path, run in _runs(text):
        font = _font(path, size)
        draw.text((left, top + size), run, colour, font, anchor='ls')  # on one base line, whatever the font
        left += round(font.getlength(run))


def _runs(text: str) -> Iterator[tuple[Path, str]]:
    """The text in pieces that one font has."""
    text = ' '.join(text.split())
    characters = {character for character in text if not character.isspace()}
    whole = next((path for path in _candidates(frozenset(characters)) if characters <= _covered(path)), None)
    if whole is not None:
        yield whole, text
        return
    for path, run in groupby(text, _font_of):
        yield path, ''.join(run)


@cache
def _font_of(character: str) -> Path:
    for path in _candidates(frozenset(character)):
        if character.isspace() or character in _covered(path):
            return path
    print_log(
        f'No installed font has the character {character!r} (U+{ord(character):04X}): pictures show a box in its '
        'place. Install a font that has it, such as Noto Sans CJK for Chinese, Japanese and Korean.',
        logger='current',
        level=30,
    )
    return _BUNDLED


def _candidates(characters: frozenset[str]) -> Iterator[Path]:
    """The bundled font, then the system's: only a text that needs them makes us look for those."""
    yield _BUNDLED
    if not characters <= _covered(_BUNDLED):
        yield from _system_fonts()


@cache
def _system_fonts() -> tuple[Path, ...]:
    """Installed fonts, plain ones of Noto first: they are drawn to look like each other."""
    found = {Path(path) for path in font_manager.findSystemFonts()}
    usable = [path for path in found if not path.stem.startswith(_SYMBOLS)]

    def rank(path: Path) -> tuple:
        name = path.stem.lower()
        plain = not any(word in name for word in ('bold', 'italic', 'oblique', 'light', 'black', 'thin', 'mono'))
        return not plain, 'serif' in name, 'sans' not in name, str(path)

    return tuple(sorted(usable, key=rank))


@cache
def _covered(path: Path) -> frozenset[str]:
    """The characters of a font; none where it cannot be used."""
    try:
        _font(path, 12)
        return frozenset(map(chr, FT2Font(str(path)).get_charmap()))
    except Exception:  # bitmap and damaged fonts raise many kinds
        return frozenset()


@cache
def _font(path: Path, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(path), size)
