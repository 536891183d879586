"""What readers of files notice on the way: sentences that are said once, whatever the number of files."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from mmengine.logging import print_log

NOTES = 'notes'  # the key of a list of notes in what a pipeline passes on, and in a packed sample's metadata


class Note(NamedTuple):
    """Something about a file that a user should know.

    Attributes:
        kind: Notes of one kind are said once.
        text: A sentence that names the file, and says what to do.
        pixels: How many pixels it is about, where pixels are counted.
    """

    kind: str
    text: str
    pixels: int = 0


def listed(words: Sequence[str], most: int = 5) -> str:
    """The first words, and the number of the others."""
    return ', '.join(words[:most]) + (f' and {len(words) - most} more' if len(words) > most else '')


class Notes(list):
    """A list of notes that copies of a sample share, as test-time augmentation makes them."""

    def __deepcopy__(self, memo: dict) -> Notes:
        return self


def say(notes: Iterable[Note], said: set[str]) -> None:
    """Log notes of kinds that have not been said yet.

    Args:
        notes: The notes.
        said: The kinds that have been said; it is changed.
    """
    for note in notes:
        if note.kind not in said:
            said.add(note.kind)
            print_log(note.text, logger='current', level=logging.WARNING)


_SAID: set[str] = set()
_COLLECTED: list[list[Note]] = []


def say_once(note: Note) -> None:
    """Log a note, once in the life of this process; inside `collecting` it is kept instead."""
    if _COLLECTED:
        _COLLECTED[-1].append(note)
    else:
        say([note._replace(kind=note.text)], _SAID)


@contextmanager
def collecting() -> Iterator[list[Note]]:
    """Keep what `say_once` would log meanwhile."""
    _COLLECTED.append([])
    try:
        yield _COLLECTED[-1]
    finally:
        _COLLECTED.pop()
