"""KEY=VALUE pairs of `--cfg-options`, read as MMEngine's `DictAction` reads them, which would import torch."""

from __future__ import annotations

import argparse
import re
from contextlib import suppress
from typing import Any

_BRACKETS = {'(': ')', '[': ']'}
_WORDS = {'true': True, 'false': False}


class CfgOptions(argparse.Action):
    """Collects the pairs in a dict, and refuses words that are not pairs and values that would be changed."""

    def __call__(self, parser, namespace, values, option_string=None) -> None:
        """Parse all pairs of one `--cfg-options`."""
        options = dict(getattr(namespace, self.dest) or {})
        for pair in values:
            key, equals, value = pair.partition('=')
            if not equals:
                parser.error(
                    f'{option_string} takes KEY=VALUE pairs, and {pair!r} is not one; values cannot contain spaces'
                )
            if re.search(r'[^\s,(\[]\s+[^\s,)\]]', value):
                parser.error(
                    f'{option_string} {pair!r} has spaces in its value, and would lose them. Set it in a config file'
                )
            try:
                options[key] = read_value(value)
            except ValueError:
                parser.error(
                    f'{option_string} {pair!r} has brackets that cannot be read as lists. Set it in a config file'
                )
        setattr(namespace, self.dest, options)


def read_value(text: str) -> Any:
    """A number, True, False, None or a word; a list of them between commas or in `[]`, a tuple in `()`.

    Raises:
        ValueError: The brackets do not fit each other.
    """
    text = text.strip('\'"').replace(' ', '')
    bracketed = _BRACKETS.get(text[:1]) == text[-1:]
    if ',' not in text and not bracketed:
        return _read_word(text)
    pieces = _split(text)
    if pieces != [text]:
        return [read_value(piece) for piece in pieces]
    if not bracketed:
        raise ValueError(f'{text} has a comma in brackets that do not enclose all of it')
    inside = [read_value(piece) for piece in _split(text[1:-1])]
    return tuple(inside) if text[0] == '(' else inside


def _split(text: str) -> list[str]:
    """Split at the commas outside brackets; one at the end separates nothing."""
    pieces, start, closing = [], 0, []
    for place, letter in enumerate(text):
        if letter in _BRACKETS:
            closing.append(_BRACKETS[letter])
        elif letter in _BRACKETS.values():
            if not closing or closing.pop() != letter:
                raise ValueError(f'{letter} closes nothing in {text}')
        elif letter == ',' and not closing:
            pieces.append(text[start:place])
            start = place + 1
    if closing:
        raise ValueError(f'{closing[-1]} is missing in {text}')
    return pieces + [text[start:]] * (start < len(text))


def _read_word(text: str) -> Any:
    for number in (int, float):
        with suppress(ValueError):
            return number(text)
    return None if text == 'None' else _WORDS.get(text.lower(), text)
