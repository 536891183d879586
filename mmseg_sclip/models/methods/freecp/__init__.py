"""FreeCP (ICCV 2025, first stage)."""

from .affinity import MeanAttention
from .head import RedundancyPurificationHead

__all__ = ['RedundancyPurificationHead', 'MeanAttention']
