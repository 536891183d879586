"""Files that are there whole or not at all."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def write_atomically(path: Path) -> Iterator[Path]:
    """Give a place to write to; what was written there appears under `path` when the block ends well.

    An error or an interrupt inside leaves the file that was there before. The folder is made where it is missing.

    Args:
        path: Of the finished file. The place has the same suffix, by which some writers choose the format.

    Raises:
        OSError: The folder cannot be written to.
    """
    unfinished = path.with_name(f'.{uuid.uuid4().hex}{path.suffix}')
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield unfinished
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
