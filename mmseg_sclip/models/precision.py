"""Parts that are computed in float32 whatever the precision around them."""

from contextlib import AbstractContextManager, nullcontext

import torch


def without_autocast(device: torch.device) -> AbstractContextManager:
    """A context in which products keep the type of their operands.

    Args:
        device: Of the operands; 'meta', where costs are counted, has no autocast.
    """
    return nullcontext() if device.type == 'meta' else torch.autocast(device.type, enabled=False)
