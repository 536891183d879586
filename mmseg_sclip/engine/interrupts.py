"""How a test ends early: SIGTERM as SIGINT, and without tracebacks of what cannot be written to a full disk."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_logs() -> Iterator[None]:
    """Log lines that do not fit on a full disk still appear on the screen; a traceback for each would hide them."""
    before, logging.raiseExceptions = logging.raiseExceptions, False
    try:
        yield
    finally:
        logging.raiseExceptions = before


@contextmanager
def terminated_as_interrupted() -> Iterator[None]:
    """Let SIGTERM end a test as SIGINT does, so that what was done is kept."""

    def interrupt(signum: int, frame: object) -> None:
        error = KeyboardInterrupt()
        error.signum = signum
        raise error

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
