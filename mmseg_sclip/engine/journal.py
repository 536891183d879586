"""Counts of finished images on disk, from which an interrupted evaluation goes on."""

from __future__ import annotations

import json
import os
import shutil
import threading
import zlib
from collections.abc import Iterator, Mapping, Set
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch
from mmengine.dist import barrier, is_main_process
from mmengine.logging import print_log
from torch import Tensor

from ..errors import ConfigError, output_error
from ..files import MARK, write_atomically
from .differences import differences
from .fingerprint import digest

_PARTS = 'fingerprint.json'
_SYNC_EVERY = 1.0  # seconds between two moments at which records are made durable


@dataclass
class Finished:
    """What a journal holds.

    Attributes:
        counts: (C, 4) int64 of all finished images, or None where there is none.
        keys: The finished images, those that were skipped among them.
        skipped: Why images were left out, by key.
    """

    counts: Tensor | None = None
    keys: set[str] = field(default_factory=set)
    skipped: dict[str, str] = field(default_factory=dict)


class Journal:
    """One record for each finished image, in a file of this process; all runs with one fingerprint share a folder.

    A record is a line with a checksum. It is handed to the system at once, so that a killed process loses nothing, and
    is on the disk a second later. What a killed process has half written is not read again.

    Args:
        folder: Of all journals of a work folder.
        parts: Of `fingerprint`.
        name: Tells journals of several metrics apart.
    """

    def __init__(self, folder: Path, parts: Mapping[str, Any], name: str = 'counts') -> None:
        self.folder = folder / digest(parts)[:16]
        self.parts = parts
        self.name = name
        self._file = None
        self._broken = False
        self._dirty = False
        self._closing = threading.Event()
        self._lock = threading.Lock()

    def read(self, only: Set[str] | None = None) -> Finished:
        """All whole records of this fingerprint, each image once.

        Args:
            only: Leave all other images out.
        """
        finished = Finished()
        for key, counts, reason in _records(self.folder, self.name):
            if key in finished.keys or (only is not None and key not in only):
                continue
            finished.keys.add(key)
            if reason is not None:
                finished.skipped[key] = reason
                continue
            counts = _unpack(counts)
            finished.counts = counts if finished.counts is None else finished.counts + counts
        return finished

    def refuse_others(self) -> None:
        """Say what differs where the work folder has only journals of other fingerprints.

        Raises:
            ConfigError: It has.
        """
        others = sorted(self.folder.parent.glob(f'*/{_PARTS}'), key=lambda path: path.stat().st_mtime)
        if self.folder.is_dir() or not others:
            return
        try:
            shown = differences(json.loads(others[-1].read_text(encoding='utf-8')), self.parts)
        except ValueError:
            shown = f'its {_PARTS} cannot be read'
        raise ConfigError(
            f'--resume: the unfinished evaluation in {others[-1].parent} was made with something else: {shown}. Put '
            'that back and resume, name another --work-dir, or leave --resume out to begin anew.'
        )

    def add(self, key: str, counts: Tensor | None, reason: str | None = None) -> None:
        """Record a finished image.

        Args:
            key: Of the image.
            counts: (C, 4) int64, or None for an image that was left out.
            reason: Why it was left out.
        """
        if self._broken:
            return
        body = json.dumps([key, None if counts is None else _pack(counts), reason], separators=(',', ':'))
        try:
            with self._lock:
                if self._file is None:
                    self._open()
                self._file.write(f'{zlib.crc32(body.encode()):08x} {body}\n'.encode())
                self._dirty = True
        except OSError as error:
            self._broken = True
            print_log(
                f'{output_error(self.folder, error, "the journal of --resume")} The evaluation goes on, but images '
                'from here on are counted again if it is interrupted.',
                logger='current',
                level=40,
            )

    def close(self) -> None:
        """Make everything durable."""
        self._closing.set()
        self._sync()
        with self._lock:
            if self._file is not None:
                self._file.close()
                self._file = None

    def remove(self) -> None:
        """Delete the records, which a written result has made superfluous."""
        self.close()
        barrier()
        if is_main_process():
            shutil.rmtree(self.folder, ignore_errors=True)
            if self.folder.parent.is_dir() and not any(self.folder.parent.iterdir()):
                self.folder.parent.rmdir()

    def _open(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        if not (self.folder / _PARTS).exists():
            with write_atomically(self.folder / _PARTS, replace=True) as unfinished:
                text = json.dumps(dict(self.parts, software=MARK), indent=1, default=str)
                unfinished.write_text(text, encoding='utf-8')
        # A file of its own for each process of each run: nobody ever writes after a torn record.
        self._file = (self.folder / f'{self.name}-{uuid4().hex[:12]}.jsonl').open('ab', buffering=0)
        threading.Thread(target=self._keep_syncing, daemon=True).start()

    def _keep_syncing(self) -> None:
        while not self._closing.wait(_SYNC_EVERY):
            self._sync()

    def _sync(self) -> None:
        with self._lock:
            if self._dirty and self._file is not None:
                with suppress(OSError):  # the next record will say it
                    os.fsync(self._file.fileno())
                self._dirty = False


def _records(folder: Path, name: str) -> Iterator[tuple[str, Any, str | None]]:
    """The whole records of all files of a name; in each file up to the first one that is torn."""
    for path in sorted(folder.glob(f'{name}-*.jsonl')):
        for line in path.read_bytes().split(b'\n')[:-1]:  # after the last line end there is nothing, or a torn record
            checksum, _, body = line.partition(b' ')
            if checksum != f'{zlib.crc32(body):08x}'.encode():
                break
            yield tuple(json.loads(body))


def _pack(counts: Tensor) -> list:
    """The number of classes, and [class, intersection, union, prediction, truth] of those that occur."""
    occur = counts.any(dim=1).nonzero()[:, 0].tolist()
    return [len(counts), *([label, *counts[label].tolist()] for label in occur)]


def _unpack(packed: list) -> Tensor:
    counts = torch.zeros(packed[0], 4, dtype=torch.int64)
    for label, *pixels in packed[1:]:
        counts[label] = torch.tensor(pixels)
    return counts
