"""What readers of files notice during a test, said once for each kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from mmengine.dist import all_gather_object
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import Runner

from ..notes import NOTES, Note, say


class NotesHook(Hook):
    """Say what the samples of a test bring along: the first of each kind at once, and their number at the end."""

    def __init__(self) -> None:
        self._said: set[str] = set()
        self._first: dict[str, Note] = {}
        self._files, self._pixels = Counter(), Counter()

    def after_test_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: Sequence | None = None
    ) -> None:
        """Take the notes of a batch."""
        for sample in (data_batch or {}).get('data_samples') or ():
            for view in sample if isinstance(sample, (list, tuple)) else [sample]:
                for note in view.metainfo.get(NOTES, ()):
                    self._files[note.kind] += 1
                    self._pixels[note.kind] += note.pixels
                    self._first.setdefault(note.kind, note)
        say(self._first.values(), self._said)

    def after_test_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        """Say what only other processes have met, and how often."""
        files, pixels = Counter(), Counter()
        for first, own_files, own_pixels in all_gather_object((self._first, self._files, self._pixels)):
            say(first.values(), self._said)  # the log of the first process is the one that is seen
            files.update(own_files)
            pixels.update(own_pixels)
        for kind, count in files.items():
            if count > 1:
                counted = f', {pixels[kind]} pixels in all' if pixels[kind] else ''
                print_log(f'The warning above about "{kind}" is true of {count} files{counted}.', logger='current')
