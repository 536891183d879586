"""Files that several processes read and write at once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from mmengine.logging import print_log

from .atomic_files import write_atomically


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


def file_hash(path: Path, memory: Path) -> str:
    """SHA-256 of a file, remembered by its path, size and times, so that a file is read once.

    Args:
        path: The file.
        memory: A JSON file with the hashes known so far; damaged, it is made anew, and where it cannot be
            written nothing is remembered.

    Raises:
        FileNotFoundError: There is no such file.
    """
    path = path.resolve()
    stamp = file_stamp(path)
    if stamp is None:
        raise FileNotFoundError(f'There is no file {path}.')
    known = _read_hashes(memory).get(str(path))
    if isinstance(known, list) and known[:-1] == stamp and isinstance(known[-1], str):
        return known[-1]
    with open(path, 'rb') as file:
        found = hashlib.sha256()
        while block := file.read(1 << 22):
            found.update(block)
    entry = [*stamp, found.hexdigest()]
    try:
        with locked(memory):
            hashes = {key: value for key, value in _read_hashes(memory).items() if Path(key).exists()}
            text = json.dumps({**hashes, str(path): entry}, indent=1)
            with write_atomically(memory) as unfinished:
                unfinished.write_text(text, encoding='utf-8')
    except OSError:
        pass  # the hash is right all the same
    return entry[-1]


def file_stamp(path: Path) -> list[int] | None:
    """Size and times of a file, which change when it does; None where there is none."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]


def _read_hashes(memory: Path) -> dict:
    try:
        content = json.loads(memory.read_text(encoding='utf-8'))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
