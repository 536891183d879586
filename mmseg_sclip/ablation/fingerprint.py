"""A short word that changes with whatever a result depends on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config

from ..demo import WEIGHTS
from ..version import __version__

# Of a data loader; they change how fast samples come, and not which.
_WITHOUT_EFFECT = ('num_workers', 'persistent_workers', 'prefetch_factor', 'pin_memory')


def fingerprint(config: Config, sections: Sequence[str], device: torch.device | None, more: str = '') -> str:
    """Sixteen hex digits of the settings, the contents of the files that they name, our version and the device.

    Args:
        config: Resolved.
        sections: Its top-level keys that matter; those that it lacks count too. `model` is always in.
        device: Where the model runs; None for a GPU where there is one.
        more: Anything else that matters.
    """
    settings = config.to_dict()
    model = settings['model']
    files = [_digest(Path(text)) for text in _strings(model) if _is_file(text)]
    if model.get('clip', {}).get('model_name') == 'builtin:demo' and WEIGHTS.is_file():
        files.append(_digest(WEIGHTS))
    parts = dict(
        {section: _relevant(settings.get(section)) for section in sections},
        model=model,
        files=files,
        version=__version__,
        device=str(device or ('cuda' if torch.cuda.is_available() else 'cpu')),
        more=more,
    )
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _relevant(section: Any) -> Any:
    if isinstance(section, Mapping):
        return {key: value for key, value in section.items() if key not in _WITHOUT_EFFECT}
    return section


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from _strings(part)
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from _strings(part)


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except (OSError, ValueError):  # a text that can be no path
        return False


def _digest(path: Path) -> str:
    state = path.stat()
    return _digest_once(path, state.st_mtime_ns, state.st_size)


@lru_cache
def _digest_once(path: Path, changed: int, size: int) -> str:
    """A file of weights is read once a process, unless it changes."""
    digest = hashlib.sha256()
    with path.open('rb') as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
