"""Lists of names, one per line, as people and programs write them: split files, and files of class names."""

from __future__ import annotations

import codecs
import os
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from ..errors import BadFileError, ConfigError
from ..images import readable_suffixes
from ..notes import Note, say_once

_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_FLAGS = ('1', '0', '-1')  # of VOC's lists of one class: present, difficult, or absent


def read_names(path: Path | str, tabs: bool = False) -> list[str]:
    """The lines of a text file without blanks around them; empty ones are left out.

    UTF-8 and UTF-16 with a mark are read, with line ends of every system.

    Args:
        path: Of the file.
        tabs: Whether tabs may stand inside of lines, between columns.

    Raises:
        BadFileError: A character cannot be read or seen; the message shows it.
    """
    content = Path(path).read_bytes()
    try:
        text = content.decode('utf-16' if content.startswith(_UTF_16) else 'utf-8-sig')
    except UnicodeDecodeError as error:
        number = content[: error.start].count(b'\n') + 1
        raise BadFileError(
            f'{path} is not UTF-8 text: line {number} holds the bytes {content[error.start : error.start + 4]!r}. Save '
            'it as UTF-8.'
        ) from error
    names = []
    for number, line in enumerate(text.replace('\r\n', '\n').replace('\r', '\n').split('\n'), 1):
        name = line.strip()
        seen = name.replace('\t', ' ') if tabs else name
        unseen = [character for character in seen if unicodedata.category(character) in ('Cc', 'Cf', 'Co', 'Cn')]
        if unseen:
            encoding = ' It seems to be UTF-16 without a mark.' if '\x00' in unseen else ''
            raise BadFileError(
                f'Line {number} of {path} is {ascii(name)}, which holds the character {ascii(unseen[0])}, '
                f'{unicodedata.name(unseen[0], "a control character")}.{encoding} Save the file as plain UTF-8 text.'
            )
        if name:
            names.append(name)
    return names


def read_split(path: Path | str, is_image: Callable[[str], bool], suffixes: Sequence[str] = ()) -> list[str]:
    """The names of images in a split file, each once, in its order.

    Args:
        path: Of the file. A line is a name without suffix. A suffix, and the second column of VOC's lists (1, 0 or -1),
            are left out, where the name without them is that of an image.
        is_image: Whether there is an image of a name without suffix; only asked for lines of the second kind.
        suffixes: Of images, beside those that can be read, which may stand after a name.

    Raises:
        BadFileError: A line names no image in any of these ways, and holds a blank; see `read_names` for others.
    """
    names, changed = [], {}
    for line in read_names(path, tabs=True):
        if os.path.isabs(line) and len(line.split()) == 1:
            raise BadFileError(
                f'{path} has the line {line!r}, which is a whole path. Names are relative to the folder of the images, '
                f'such as {Path(line).stem!r}.'
            )
        name = _name_in(line, is_image, (*suffixes, *readable_suffixes()))
        if name is None:
            columns = line.split()
            if line.startswith('#'):
                raise BadFileError(f'{path} has the line {line!r}. Take it out: a split file holds names only.')
            raise BadFileError(
                f'{path} has the line {line!r}, of {len(columns)} columns, but names are wanted, one per line and '
                f'without suffix, and there is no image {line!r} or {columns[0]!r}. Keep the first column only, such '
                f'as {Path(columns[0]).stem!r}.'
            )
        names.append(name)
        if name != line:
            changed.setdefault(line, name)
    if changed:
        line, name = next(iter(changed.items()))
        text = f'{path}: {len(changed)} lines hold more than the name of an image: {line!r} was read as {name!r}.'
        say_once(Note('split files with more than names', text))
    counts = Counter(names)
    if len(counts) < len(names):
        twice = [name for name, count in counts.items() if count > 1]
        text = (
            f'{path}: {len(names) - len(counts)} lines repeat the name of an image, such as {", ".join(twice[:5])}. '
            'Each image is taken once.'
        )
        say_once(Note('names repeated in the split file', text))
    return list(counts)


def _name_in(line: str, is_image: Callable[[str], bool], suffixes: Iterable[str]) -> str | None:
    """The name of the image that a line means; None where it cannot mean one."""
    suffixes = tuple(dict.fromkeys(suffixes))
    line = line.removeprefix('./')
    if not (line.lower().endswith(suffixes) or len(line.split()) > 1) or is_image(line):
        return line
    first, _, last = line.rpartition(' ' if '\t' not in line else '\t')
    first = first.strip()
    if last in _FLAGS and (is_image(first) or len(first.split()) == 1):
        return _name_in(first, is_image, suffixes)
    for suffix in suffixes:
        stem = line[: -len(suffix)]
        if line.lower().endswith(suffix) and is_image(stem):
            return stem
    return None if len(line.split()) > 1 else line


def exists_beside(folder: str, suffix: str) -> Callable[[str], bool]:
    """Whether a folder has an image of that name, for `read_split`."""
    return lambda name: os.path.isfile(os.path.join(folder, name + suffix))


def with_class_names(metainfo: Mapping) -> dict:
    """A dataset's `metainfo`, with the names of the classes in place of the file that holds them.

    Raises:
        BadFileError: The file cannot be read.
        ConfigError: The file does not exist, or it has a name twice.
    """
    named = metainfo.get('classes')
    if not isinstance(named, (str, Path)) or '://' in str(named):
        return dict(metainfo)
    if not Path(named).is_file():  # MMEngine would take each character for a class
        raise ConfigError(f'metainfo.classes names the file {named}, which does not exist. Correct the path.')
    names = read_names(named)
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ConfigError(f'The file of class names {named} has {twice!r} twice. Give each class a name of its own.')
    return {**metainfo, 'classes': tuple(names)}
