"""A user's words: classes with synonyms, and a background."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..errors import ConfigError, MissingFileError
from ..models.text import Vocabulary, load_vocabulary, warn_of_list

Classes = Sequence[str | Sequence[str]] | str | Path
Background = str | Sequence[str] | None

AUTO, NONE = 'auto', 'none'
BACKGROUND_NAME = 'background'
_SOURCE_OF_AUTO = 'voc21'  # the shipped vocabulary whose first class is SCLIP's background


def read_words(classes: Classes, background: Background) -> Vocabulary:
    """What a user's classes and background mean, the background first where there is one.

    Args:
        classes: A list with a name or a list of synonyms for each class, the first of which is its name; or the name
            of a shipped vocabulary or the path of a text file, one class per line, synonyms after a comma and a space.
        background: 'auto' for SCLIP's 26 words for backgrounds, without those that the classes
            name; a list of phrases; or None or 'none' for no background: every pixel then gets one of the classes.

    Raises:
        ConfigError: There are no classes, a phrase stands twice or is empty, or no background is left.
        MissingFileError: There is no such vocabulary.
    """
    if isinstance(classes, (str, Path)):
        try:
            classes = load_vocabulary(classes).classes
        except FileNotFoundError as error:
            raise MissingFileError(f'{error} A single class is given as a list: {[str(classes)]}.') from error
    elif not isinstance(classes, Sequence) or not classes:
        raise ConfigError(
            f"The classes are {classes!r}. Name at least one: ['cat', ['sofa', 'couch'], 'remote control'], where "
            'the inner list holds synonyms.'
        )
    phrases = [tuple(map(_tidy, group)) for group in load_vocabulary(list(classes)).classes]
    names = [group[0] for group in phrases]
    others = _background_phrases(background, phrases)
    if others is not None:
        names, phrases = [BACKGROUND_NAME, *names], [others, *phrases]
    _refuse_repeated(names, phrases)
    return Vocabulary('given by the user', tuple(phrases), tuple(names), None if others is None else 0)


def _background_phrases(background: Background, classes: Sequence[Sequence[str]]) -> tuple[str, ...] | None:
    word = background.lower() if isinstance(background, str) else background
    if word in (None, NONE):
        return None
    if word == AUTO:
        named = {phrase.lower() for group in classes for phrase in group}
        left = tuple(word for word in load_vocabulary(_SOURCE_OF_AUTO).classes[0] if word.lower() not in named)
        if not left:
            raise ConfigError(
                "background='auto' has no words left, because the classes name them all. Give a list of phrases, or "
                'None for no background.'
            )
        return left
    if (
        isinstance(background, str)
        or not isinstance(background, Sequence)
        or not background
        or not all(isinstance(phrase, str) and phrase.strip() for phrase in background)
    ):
        raise ConfigError(
            f"The background is {background!r}; it must be 'auto', None or 'none', or a list of phrases such as "
            "['sky', 'wall']."
        )
    phrases = tuple(map(_tidy, background))
    warn_of_list(phrases)
    return phrases


def _refuse_repeated(names: Sequence[str], phrases: Sequence[Sequence[str]]) -> None:
    """Refuse equal phrases: their scores are equal, so the second class would never win. CLIP ignores case."""
    owners: dict[str, str] = {}
    for name, group in zip(names, phrases, strict=True):
        for phrase in group:
            if phrase.lower() in owners:
                other = owners[phrase.lower()]
                both = f'in the class {name!r}' if other is name else f'in the classes {other!r} and {name!r}'
                raise ConfigError(
                    f'The phrase {phrase!r} stands twice, {both}. Upper and lower case are the same to CLIP: leave '
                    'one out.'
                )
            owners[phrase.lower()] = name
    repeated = next((name for name in names if sum(name.lower() == other.lower() for other in names) > 1), None)
    if repeated is not None:
        raise ConfigError(f'Two classes are called {repeated!r}; the background is called {BACKGROUND_NAME!r}.')


def _tidy(phrase: str) -> str:
    return ' '.join(phrase.split())
