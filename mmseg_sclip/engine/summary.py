"""What is printed at the end of a test, at any `log_level`."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from mmengine.dist import is_main_process
from mmengine.logging import MMLogger
from torch import Tensor

from ..notes import listed

_SHOWN = 10  # classes that a sentence names


@contextmanager
def at_any_level(logger: MMLogger | None = None) -> Iterator[None]:
    """Let a logger pass lines of the level INFO meanwhile, whatever `log_level` is; in the main process only.

    Args:
        logger: None for the current one.
    """
    logger = logger or MMLogger.get_current_instance()
    parts = [logger, *logger.handlers] if is_main_process() else []
    before = [part.level for part in parts]
    for part, level in zip(parts, before, strict=True):
        part.setLevel(min(level, logging.INFO))
    try:
        yield
    finally:
        for part, level in zip(parts, before, strict=True):
            part.setLevel(level)


def absent_classes(
    names: Sequence[str], counts: Tensor, ignored: Sequence[int] = (), nan_to_num: float | None = None
) -> str | None:
    """A sentence on the classes that no label map holds; None where there is none.

    Args:
        names: Of the C classes.
        counts: (C, 4), pixels of intersection, union, prediction and truth.
        ignored: Labels that are not counted; a class among them is named with that reason.
        nan_to_num: What the metric takes for an IoU that would be divided by zero.
    """
    absent = (counts[:, 3] == 0).nonzero()[:, 0].tolist()
    if not absent:
        return None
    words = [f'{names[label]} (ignored by ignore_index)' if label in ignored else str(names[label]) for label in absent]
    predicted = [str(names[label]) for label in absent if counts[label, 2] > 0]
    unseen = 'are left out of it' if nan_to_num is None else f'count as {nan_to_num} (nan_to_num)'
    if not predicted:
        effect = f'None is predicted, so in mIoU they {unseen}.'
    elif len(predicted) == len(absent):
        effect = 'All are predicted somewhere, so in mIoU they count with an IoU of 0.'
    else:
        which = listed(predicted, _SHOWN)
        effect = f'In mIoU those that are predicted ({which}) count with an IoU of 0, the others {unseen}.'
    return f'No label map holds {len(absent)} of the {len(names)} classes: {listed(words, _SHOWN)}. {effect}'
