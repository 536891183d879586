"""The disk cache of encoded phrases."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from mmengine.logging import print_log
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ...files import locked, write_atomically

_PORTION = 200  # phrases that are encoded before they are written: what an interruption can cost


class TextBankCache:
    """Encoded phrases in one file for each set of weights, templates and precision.

    A phrase is encoded once over the life of a cache: a new vocabulary adds its new phrases, and of several
    processes one encodes while the others wait. A file that is damaged, or was made for something else, is
    reported and replaced; a folder that cannot be written is reported and done without.

    Args:
        folder: Where the file lies.
        key: All that the vectors depend on; JSON types.
    """

    def __init__(self, folder: Path, key: Mapping[str, Any]) -> None:
        self.key = json.dumps(key, sort_keys=True)
        self.path = folder / f'{hashlib.sha256(self.key.encode()).hexdigest()[:20]}.safetensors'

    def complete(self, phrases: Sequence[str], encode: Callable[[list[str]], Tensor]) -> Tensor:
        """Vectors of all phrases (P, D), float32, on the CPU.

        Args:
            phrases: Without repetitions.
            encode: From phrases to (P, D); called with those that are not in the cache.
        """
        bank = self._read()
        if all(phrase in bank for phrase in phrases):
            return torch.stack([bank[phrase] for phrase in phrases])
        with ExitStack() as stack:
            try:
                stack.enter_context(locked(self.path))
                bank, keep = self._read(report=True), True  # again, since another process may have been here
            except OSError as error:
                keep = self._give_up(error)
            missing = [phrase for phrase in phrases if phrase not in bank]
            for first in range(0, len(missing), _PORTION):
                portion = missing[first : first + _PORTION]
                bank.update(zip(portion, encode(portion).float().cpu(), strict=True))
                if keep:
                    keep = self._write(bank)
        return torch.stack([bank[phrase] for phrase in phrases])

    def _give_up(self, error: Exception) -> bool:
        """Say that nothing is kept; always False."""
        print_log(
            f'The text bank cannot be kept in {self.path.parent} ({error}), so it is encoded at every start. '
            'Set clip.cache_dir or MMSEG_SCLIP_CACHE to a folder that can be written.',
            logger='current',
            level=30,
        )
        return False

    def _read(self, report: bool = False) -> dict[str, Tensor]:
        """The vector of each phrase; nothing where the file is missing or cannot be trusted."""
        if not self.path.is_file():
            return {}
        try:
            with safe_open(self.path, framework='pt') as file:
                notes, vectors = file.metadata() or {}, file.get_tensor('bank')
            if notes.get('key') != self.key:
                raise ValueError('it was made for something else')
            if notes.get('sha256') != _digest(vectors):
                raise ValueError('its content is damaged')
            return dict(zip(json.loads(notes['phrases']), vectors, strict=True))
        except Exception as error:  # safetensors raises its own kind, and a foreign file may hold anything
            if report:
                print_log(
                    f'The text bank {self.path} is not used ({error}); it is encoded again and the file replaced.',
                    logger='current',
                    level=30,
                )
            return {}

    def _write(self, bank: Mapping[str, Tensor]) -> bool:
        """Replace the file; False where that fails."""
        vectors = torch.stack(list(bank.values()))
        notes = dict(key=self.key, phrases=json.dumps(list(bank)), sha256=_digest(vectors))
        try:
            with write_atomically(self.path, replace=True) as unfinished:
                save_file(dict(bank=vectors), unfinished, metadata=notes)
        except (OSError, SafetensorError) as error:  # a full disk is of the second kind
            return self._give_up(error)
        return True


def _digest(vectors: Tensor) -> str:
    return hashlib.sha256(vectors.numpy().tobytes()).hexdigest()
