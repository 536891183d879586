"""The folders that a run writes to: apart from its inputs and each other, with a name of its own for every file."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile

from mmengine.logging import print_log

from .errors import OutputError, output_error
from .files import is_free, write_atomically

_ROOM = 1 << 16  # bytes that must fit into a folder before a run begins


class OutputFolder:
    """A folder that a run writes to: every file gets a name of its own, and nothing of the user's is replaced.

    Args:
        folder: It is made when something is written. `check_outputs` looks at it before that.
        what: Which of the outputs it is, for messages, such as `--show-dir`.

    Attributes:
        unwritten: Number of files that could not be written, see `attempt`.
        error: Why the first of them could not; None where all could.
    """

    def __init__(self, folder: Path | str, what: str = '') -> None:
        self.folder = Path(folder).expanduser()
        self.what = what
        self.unwritten = 0
        self.error: OutputError | None = None
        self._names: dict[tuple[object, str], str] = {}
        self._used: set[str] = set()

    def name(self, path: Path | str, *suffixes: str) -> str:
        """A stem for the results of an input: the input's own, with a number where another one has it already.

        The same input always gets the same stem, so that a second pass over a dataset replaces the files of the first.

        Args:
            path: Of the input.
            suffixes: Of all files that get this stem, such as `.png` and `_overlay.png`.
        """
        key = (os.path.abspath(path), suffixes[0] if suffixes else '')
        if key not in self._names:
            stem = name = Path(path).stem
            number = 1
            while any(
                f'{name}{suffix}'.casefold() in self._used or not is_free(self.folder / f'{name}{suffix}')
                for suffix in suffixes
            ):
                number += 1
                name = f'{stem}-{number}'
            self._used |= {f'{name}{suffix}'.casefold() for suffix in suffixes}
            self._names[key] = name
        return self._names[key]

    def reserve(self, paths: Iterable[Path | str], *suffixes: str) -> None:
        """Settle the names of many inputs at once, so that several processes agree on them."""
        for path in paths:
            self.name(path, *suffixes)

    def write(self, name: str) -> AbstractContextManager[Path]:
        """`write_atomically` for a file in the folder."""
        return write_atomically(self.folder / name, self.what)

    @contextmanager
    def attempt(self, name: str) -> Iterator[Path]:
        """As `write`, but a file that cannot be written is counted in `unwritten`, so that a long run goes on."""
        try:
            with self.write(name) as unfinished:
                yield unfinished
        except OutputError as error:
            if self.error is None:
                print_log(f'{error} The run goes on without such files.', logger='current', level=logging.ERROR)
                self.error = error
            self.unwritten += 1


def check_outputs(folders: Iterable[OutputFolder], inputs: Iterable[Path | str]) -> None:
    """Look at the folders that a run will write to, and try to write there, before an hour of work is done.

    Args:
        folders: Each makes names of its own, so no two may be the same.
        inputs: What the run reads, as `refuse_inputs` takes it.

    Raises:
        OutputError: Inputs lie in one of the folders, two are the same, or one cannot be written to.
    """
    inputs, before = list(inputs), []
    for output in folders:
        refuse_inputs(output.folder, inputs, output.what)
        for other in before:
            if _same(output.folder, other.folder):
                raise OutputError(
                    f'{other.what} and {output.what} are the same folder, {output.folder}, where one would replace '
                    'the files of the other. Name two folders.'
                )
        for path in (output.folder, *output.folder.parents):
            if path.exists() and not path.is_dir():
                raise OutputError(
                    f'{output.what or "The folder"} {output.folder} must be a folder, but {path} is a file. Name '
                    'another folder.'
                )
        try:
            output.folder.mkdir(parents=True, exist_ok=True)
            with NamedTemporaryFile(dir=output.folder, prefix='.') as file:
                file.write(bytes(_ROOM))
        except OSError as error:
            raise output_error(output.folder, error, output.what) from error
        before.append(output)


def refuse_inputs(folder: Path | str, inputs: Iterable[Path | str], what: str = '') -> None:
    """Refuse an output folder where inputs of the run lie, however the two are written or linked.

    Args:
        folder: It need not exist.
        inputs: Files, beside which nothing is written; and folders, below which nothing is written at any depth, since
            the next run would find it there. What does not exist is left aside.
        what: Which of the outputs it is, for messages.

    Raises:
        OutputError: With the input.
    """
    wanted = Path(os.path.realpath(folder))
    places: dict[tuple[str, bool], Path | str] = {}  # folder and whether all below counts, to an input
    for path in inputs:
        if '://' in str(path) or not os.path.exists(path):
            continue
        if os.path.isdir(path):
            places.setdefault((os.path.abspath(path), True), path)
            continue
        places.setdefault((os.path.dirname(os.path.abspath(path)), False), path)
        if os.path.islink(path):
            places.setdefault((os.path.dirname(os.path.realpath(path)), False), path)
    for (place, below), path in places.items():
        if any(_same(place, parent) for parent in (wanted, *(wanted.parents if below else ()))):
            raise OutputError(
                f'{what or "The folder"} {folder} is where the inputs of this run are ({path}). Results are never '
                'written there, where they could replace an input or be taken for one: name another folder.'
            )


def _same(one: Path | str, other: Path | str) -> bool:
    try:
        return os.path.samefile(one, other)
    except OSError:  # one of them is not there
        return os.path.realpath(one) == os.path.realpath(other)
