"""Vocabularies: which phrases stand for which class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ...errors import BadFileError, ConfigError, MissingFileError, nearest
from .phrases import split_phrases, warn_of_line, warn_of_list

SHIPPED = Path(__file__).parents[2] / 'datasets' / 'vocabularies'


@dataclass(frozen=True)
class Vocabulary:
    """Classes in the order of their labels, each with the phrases that stand for it.

    Attributes:
        name: What messages call it.
        classes: One tuple of phrases per class.
        class_names: What the classes are called; left out, each has its first phrase as name.
        background_index: The class that unsure pixels fall to; None where there is none.
    """

    name: str = field(compare=False)
    classes: tuple[tuple[str, ...], ...]
    class_names: tuple[str, ...] = ()
    background_index: int | None = None

    def __post_init__(self) -> None:
        if not self.class_names:
            object.__setattr__(self, 'class_names', tuple(phrases[0] for phrases in self.classes))

    @property
    def num_classes(self) -> int:
        """Number of classes C."""
        return len(self.classes)

    @property
    def queries(self) -> tuple[str, ...]:
        """All phrases, those of a class beside each other; their number is Q."""
        return tuple(phrase for phrases in self.classes for phrase in phrases)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of phrases of each class; they add up to Q."""
        return tuple(len(phrases) for phrases in self.classes)

    @property
    def distinct(self) -> tuple[str, ...]:
        """Each different phrase once, in the order of its first use."""
        return tuple(dict.fromkeys(self.queries))


def shipped_vocabularies() -> list[str]:
    """Names of the vocabularies that ship with the package."""
    return sorted(path.stem for path in SHIPPED.glob('*.txt'))


def load_vocabulary(spec: str | Path | Vocabulary | Sequence | None, folders: Sequence[Path] = ()) -> Vocabulary:
    """Read a vocabulary.

    Args:
        spec: The name of a shipped vocabulary, the path of a text file, or a list with one entry per
            class: a name, or a list of phrases. A shipped name wins over a file of that name. A phrase of a list is
            never split; of one that has a comma a warning says so.
        folders: Where relative paths are looked for before the current folder.

    Raises:
        MissingFileError: There is no such vocabulary or file.
        BadFileError: The content of the file is wrong; the message names the line.
        ConfigError: The list is wrong; the message names the class.
    """
    if isinstance(spec, Vocabulary):
        warn_of_list(spec.queries)
        return spec
    if isinstance(spec, (str, Path)):
        return _read(find_vocabulary(str(spec), folders))
    if not isinstance(spec, Sequence) or not spec:
        raise ConfigError(
            f'The vocabulary is {spec!r}. Give a shipped name ({", ".join(shipped_vocabularies())}), a text '
            "file, or a list such as ['cat', ['dog', 'puppy']]."
        )
    classes = [[entry] if isinstance(entry, str) else entry for entry in spec]
    for number, phrases in enumerate(classes):
        if (
            not isinstance(phrases, Sequence)
            or not phrases
            or not all(isinstance(phrase, str) and phrase.strip() for phrase in phrases)
        ):
            raise ConfigError(
                f'Class {number} of the vocabulary list is {spec[number]!r}; it must be a name or a list of '
                'names, none of them empty.'
            )
    vocabulary = Vocabulary('given as a list', tuple(tuple(phrase.strip() for phrase in entry) for entry in classes))
    warn_of_list(vocabulary.queries)
    return vocabulary


def find_vocabulary(spec: str, folders: Sequence[Path] = ()) -> Path:
    """The file of a vocabulary; arguments and errors as in `load_vocabulary`."""
    if spec in shipped_vocabularies():
        return SHIPPED / f'{spec}.txt'
    tried = [folder / Path(spec).expanduser() for folder in (*folders, Path())]
    for path in tried:
        if path.is_file():
            return path
    raise MissingFileError(
        f"There is no vocabulary '{spec}'.{nearest(spec, shipped_vocabularies())} Shipped: "
        f'{", ".join(shipped_vocabularies())}. As a file it was looked for at '
        f'{", ".join(str(path.absolute()) for path in dict.fromkeys(tried))}. A path beside your config, wherever the '
        "command runs, is written vocabulary='{{ fileDirname }}/words.txt'."
    )


def _read(path: Path) -> Vocabulary:
    """One class per line, see `split_phrases`; # starts a comment, in a line's middle after a space."""
    try:
        lines = path.read_text(encoding='utf-8-sig').splitlines()
    except UnicodeDecodeError as error:
        raise BadFileError(f'The vocabulary {path} is not UTF-8 text ({error}). Save it as UTF-8.') from error
    classes = []
    for number, line in enumerate(lines, 1):
        if line.lstrip().startswith('#'):
            continue
        line = line.split(' #')[0]
        phrases = split_phrases(line)
        if not all(phrases):
            what = 'an empty phrase' if line.strip() else 'blank'
            raise BadFileError(
                f'Line {number} of the vocabulary {path} is {what}: {line!r}. Each line is one class, its '
                'phrases separated by a comma and a space; delete the line, or put # in front.'
            )
        warn_of_line(f'Line {number} of the vocabulary {path}', phrases)
        classes.append(phrases)
    if not classes:
        raise BadFileError(f'The vocabulary {path} names no class. Write one class per line.')
    return Vocabulary(path.name, tuple(classes))
