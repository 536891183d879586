"""What differs between two fingerprints, in words."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What differs between two fingerprints, as `PLACE was VALUE and is VALUE`, at most six places.

    Args:
        before: As JSON has it.
        now: As `fingerprint` returns it.
    """
    lines = list(_differences(before, json.loads(json.dumps(now, default=str))))
    return '; '.join(lines[:6]) + (f'; and {len(lines) - 6} more' if len(lines) > 6 else '')


def _differences(before: Any, now: Any, where: str = '') -> Iterator[str]:
    """One sentence for each place that differs."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for key in [*before, *(key for key in now if key not in before)]:
            if key != 'software':
                yield from _differences(before.get(key), now.get(key), f'{where}.{key}' if where else str(key))
    elif before != now:
        yield f'{where} was {_short(before)} and is {_short(now)}'


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f'{text[:57]}...'
