"""FreeCP (ICCV 2025, first stage)."""

from .affinity import WithMeanAttention
from .head import RedundancyPurificationHead

__all__ = ['RedundancyPurificationHead', 'WithMeanAttention']
