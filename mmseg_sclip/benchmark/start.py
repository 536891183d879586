"""Start-up: from a config to a text bank."""

from __future__ import annotations

import copy
import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from mmengine.config import Config
from mmseg.registry import MODELS

from ..models.clip import ClipSource
from ..models.text import load_templates, load_vocabulary
from . import plain
from .measure import seconds

PLAIN_PHRASES = 8  # the plain way is timed on these and scaled
_WARM = 3


@dataclass(frozen=True)
class Start:
    """Seconds until a text bank is ready, from nothing (cold) and from the disk cache (warm)."""

    cold: float
    warm: float | None = None


@contextmanager
def empty_text_cache() -> Iterator[None]:
    """Keep encoded phrases in a folder of their own meanwhile; weights stay where they are."""
    usual = ClipSource.text_cache
    with TemporaryDirectory() as folder:
        ClipSource.text_cache = lambda self: Path(folder)
        try:
            yield
        finally:
            ClipSource.text_cache = usual


def measure_start(config: Config, precision: str | None, device: torch.device) -> Start:
    """Time the way from the config to the text bank; the image tower, the same for both ways, is not in it.

    Args:
        config: With its weights.
        precision: Of ours; None for the plain way in float32.
        device: Of the text tower.
    """
    if precision is None:
        return Start(_plain_start(config, device))
    head = copy.deepcopy(config.model.decode_head)
    with empty_text_cache():

        def ready() -> None:
            head.clip = dict(config.model.clip, precision=precision)
            MODELS.build(head).encode_vocabulary(device)

        cold = seconds(ready, device)[0]
        return Start(cold, statistics.median(seconds(ready, device)[0] for _ in range(_WARM)))


def _plain_start(config: Config, device: torch.device) -> float:
    phrases = load_vocabulary(config.model.decode_head.vocabulary).distinct
    templates = load_templates(config.model.decode_head.get('templates', 'openai_imagenet'))

    def build() -> tuple:
        source = ClipSource(dict(config.model.clip, precision='fp32'))
        return source.text_tower().to(device), source.tokenizer()

    loading, (tower, tokenizer) = seconds(build, device)
    some = phrases[:PLAIN_PHRASES]
    encoding = seconds(lambda: [plain.encode_phrase(tower, tokenizer, p, templates) for p in some], device)[0]
    return loading + encoding / len(some) * len(phrases)
