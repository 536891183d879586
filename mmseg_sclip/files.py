"""Files of ours: written whole or not at all, never over what the user gave, shared by several processes."""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout
from mmengine.logging import print_log

from .errors import OutputError, UserError, output_error

# Every file that we write holds these words near its beginning or its end; only such files are ever replaced.
# It is put together here, so that no text that speaks of the mark carries it.
MARK = ' '.join(('written by mmseg_sclip', '[57c1b29e]'))
_MARK_WITHIN = 1 << 16  # bytes; after the mark of a PDF stands its table of objects


@contextmanager
def write_atomically(path: Path | str, what: str = '', replace: bool = False) -> Iterator[Path]:
    """Give a place to write to; what was written there appears under `path` when the block ends well.

    An error or an interrupt inside leaves everything as it was. The folder is made where it is missing.

    Args:
        path: Of the finished file. The place has the same suffix, by which some writers choose the format.
        what: Which of the outputs it is, for messages, such as `--show-dir`.
        replace: Replace a file even where it does not carry `MARK`, such as one in a cache of ours.

    Raises:
        OutputError: The folder cannot be written to, or a file that is not ours has the name.
    """
    path = Path(path)
    unfinished = path.with_name(f'.{uuid.uuid4().hex}{path.suffix}')
    try:
        if not replace:
            refuse_taken(path, what)
        path.parent.mkdir(parents=True, exist_ok=True)
        yield unfinished
        if not replace:
            refuse_taken(path, what)  # somebody else may have written meanwhile
        os.replace(unfinished, path)
    except OSError as error:
        raise error if isinstance(error, UserError) else output_error(path, error, what) from error
    finally:
        with suppress(OSError):  # a folder that was never made, or cannot be written
            unfinished.unlink(missing_ok=True)


def refuse_taken(path: Path | str, what: str = '') -> None:
    """Refuse a path where a file lies that is not ours.

    Raises:
        OutputError: With the name.
    """
    if not is_free(path):
        raise OutputError(
            f'{path} is there already and was not written by mmseg_sclip, so it is not replaced'
            f'{f" ({what})" if what else ""}. Move it away, or name another place.'
        )


def is_ours(path: Path | str) -> bool:
    """Whether this package wrote a file, which may then be replaced; a link never counts as ours."""
    path = Path(path)
    if path.is_symlink() or not path.is_file():
        return False
    try:
        with open(path, 'rb') as file:
            content = file.read(_MARK_WITHIN)
            file.seek(max(0, path.stat().st_size - _MARK_WITHIN))
            content += file.read()
    except OSError:
        return False
    return MARK.encode() in content


def is_free(path: Path | str) -> bool:
    """Whether a file of this name may be written: there is none, or it is ours."""
    return not os.path.lexists(path) or is_ours(path)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep other processes out of `path` meanwhile; a process that dies gives the lock back.

    Raises:
        OSError: The folder cannot be written, or knows no locks.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(f'{path}.lock')
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print_log(f'Waiting for another process that writes {path.name}.', logger='current')
        lock.acquire()
    except NotImplementedError as error:
        raise OSError(f'{path.parent} knows no locks') from error
    try:
        yield
    finally:
        lock.release()


def file_stamp(path: Path) -> list[int] | None:
    """Size and times of a file, which change when it does; None where there is none."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]


def file_hash(path: Path, memory: Path | None = None) -> str:
    """SHA-256 of a file, remembered by its path, size and times, so that a file is read once.

    Args:
        path: The file.
        memory: A JSON file with the hashes known so far; damaged, it is made anew, and where it cannot be
            written nothing is remembered. None remembers nothing.

    Raises:
        FileNotFoundError: There is no such file.
    """
    path = path.resolve()
    stamp = file_stamp(path)
    if memory is not None:
        known = _read_hashes(memory).get(str(path))
        if isinstance(known, list) and known[:-1] == stamp and isinstance(known[-1], str):
            return known[-1]
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        while block := file.read(1 << 22):
            digest.update(block)
    sha256 = digest.hexdigest()
    entry = [*(stamp or []), sha256]
    if memory is not None:
        with suppress(OSError), locked(memory):  # the hash is right all the same
            hashes = {key: value for key, value in _read_hashes(memory).items() if Path(key).exists()}
            with write_atomically(memory, replace=True) as unfinished:
                unfinished.write_text(json.dumps({**hashes, str(path): entry}, indent=1), encoding='utf-8')
    return sha256


def _read_hashes(memory: Path) -> dict:
    try:
        content = json.loads(memory.read_text(encoding='utf-8'))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
