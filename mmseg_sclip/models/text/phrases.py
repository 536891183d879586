"""From a line or a word to its phrases, and a warning where a comma may have been meant otherwise."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence

_OPENING = {')': '(', ']': '[', '）': '（'}  # of each closing parenthesis
_warned: set[object] = set()  # phrases, and lines with their place, that a warning has shown


def split_phrases(text: str) -> tuple[str, ...]:
    """The phrases of a line or a word, without the spaces around them.

    A comma and a space separate phrases, but not within parentheses: `sky (blue, clear), sea` has two. A parenthesis
    without its counterpart keeps nothing together. An empty phrase is returned as such.
    """
    depths, _ = _nesting(text)
    ends = [index for index, depth in enumerate(depths) if not depth and text.startswith(', ', index)]
    starts = [0, *(index + 2 for index in ends)]
    return tuple(text[start:end].strip() for start, end in zip(starts, [*ends, len(text)], strict=True))


def doubts(phrase: str) -> list[str]:
    """What of a phrase looks as if another one was meant, in words; nothing where all is well."""
    depths, unpaired = _nesting(phrase)
    if phrase.startswith(tuple(_OPENING.values())):  # a list that was written as a word, such as [grass, lawn]
        depths = [depth - all(depths) for depth in depths]
    loose = {character for character, depth in zip(phrase, depths, strict=True) if not depth}
    found = {
        'a comma that separates nothing': loose & set(',，、،'),
        'a semicolon that separates nothing': loose & set(';；؛'),
        'a parenthesis without its counterpart': unpaired,
    }
    return [what for what, holds in found.items() if holds]


def warn_of_line(where: str, phrases: Sequence[str]) -> None:
    """Warn once of a line or a word with a doubtful phrase, and show how it was read.

    Args:
        where: What the message shall call it.
        phrases: What `split_phrases` made of it.
    """
    found = dict.fromkeys(what for phrase in phrases for what in doubts(phrase))
    key = (where, *phrases)
    if found and key not in _warned:
        _warned.update([key, *phrases])
        warnings.warn(
            f'{where} has {" and ".join(found)}. It was read as {len(phrases)} phrase{"s" * (len(phrases) > 1)}: '
            f'{" | ".join(phrases)}. Phrases are separated by a comma and a space, outside parentheses.',
            stacklevel=4,
        )


def warn_of_list(phrases: Iterable[str]) -> None:
    """Warn of doubtful phrases that were given one by one, once of each."""
    found = {phrase: what for phrase in phrases if phrase not in _warned and (what := doubts(phrase))}
    if found:
        _warned.update(found)
        more = f' Of this kind are also: {" | ".join(list(found)[1:4])}' if len(found) > 1 else ''
        more += f', and {len(found) - 4} more.' if len(found) > 4 else '.' * bool(more)
        phrase, what = next(iter(found.items()))
        warnings.warn(
            f'The phrase {phrase!r} has {" and ".join(what)}: in a list, each entry is read as one phrase.{more} If '
            "several were meant, make each an entry of its own; the synonyms of a class are an inner list: [['grass', "
            "'lawn'], 'cat'].",
            stacklevel=3,
        )


def _nesting(text: str) -> tuple[list[int], bool]:
    """In how many pairs of parentheses each character stands, and whether a parenthesis has no counterpart."""
    depths, opened, unpaired = [0] * len(text), [], False
    for index, character in enumerate(text):
        if character in _OPENING.values():
            opened.append(index)
        elif opened and _OPENING.get(character) == text[opened[-1]]:
            for inside in range(opened.pop(), index + 1):
                depths[inside] += 1
        elif character in _OPENING:
            unpaired = True
    return depths, unpaired or bool(opened)
