"""CLIPer (ICCV 2025, without diffusion)."""

from .attention import EarlyLayerAttention
from .decoder import EarlyLayerFusion
from .head import EarlyLayerFusionHead

__all__ = ['EarlyLayerAttention', 'EarlyLayerFusion', 'EarlyLayerFusionHead']
