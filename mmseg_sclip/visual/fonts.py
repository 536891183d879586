"""Fonts for words in any script: matplotlib's own, then installed ones for what it lacks."""

from collections.abc import Iterable
from functools import cache

from matplotlib import font_manager
from mmengine.logging import print_log

OWN = 'DejaVu Sans'  # ships with matplotlib: Latin, Greek, Cyrillic, Arabic, ...
_PLACEHOLDERS = ('lastresort', '.lastresort')  # fonts that have a box for every letter


def families(texts: Iterable[str]) -> list[str]:
    """Font families that together have the letters of some texts, if an installed font has them."""
    chosen = [OWN]
    lacking = {letter for text in texts for letter in text if not letter.isspace()} - _letters(_own_path())
    for path in _installed() if lacking else ():
        if lacking & _letters(path):
            lacking -= _letters(path)
            chosen.append(_family(path))
    if lacking:
        _advise(''.join(sorted(lacking)))
    return chosen


def is_readable(text: str) -> bool:
    """Whether an installed font has every letter of a text."""
    lacking = {letter for letter in text if not letter.isspace()} - _letters(_own_path())
    return not lacking or not lacking.difference(*map(_letters, _installed()))


@cache
def _installed() -> list[str]:
    return sorted(font_manager.findSystemFonts())


@cache
def _letters(path: str) -> frozenset[str]:
    """The letters of a font file; empty if it cannot be used or shows the same box for every letter."""
    try:
        font = font_manager.get_font(path)
        boxes = font.family_name.replace(' ', '').lower().startswith(_PLACEHOLDERS)
        return frozenset() if boxes else frozenset(map(chr, font.get_charmap()))
    except Exception:  # bitmap and damaged fonts raise many kinds
        return frozenset()


@cache
def _family(path: str) -> str:
    """The family by which matplotlib finds a font file, even if it was installed after matplotlib listed the fonts."""
    if path not in {entry.fname for entry in font_manager.fontManager.ttflist}:
        font_manager.fontManager.addfont(path)
    return font_manager.get_font(path).family_name


def _own_path() -> str:
    return font_manager.findfont(OWN)


@cache
def _advise(letters: str) -> None:
    print_log(
        f'No installed font has the letters {letters!r}: pictures show boxes in their place. Install a font that has '
        'them, such as Noto Sans CJK for Chinese, Japanese and Korean.',
        logger='current',
        level=30,
    )
