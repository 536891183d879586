"""Every picture: palettes, overlays, attention maps, comparisons, and the hooks that draw. Importing registers them."""

from .attention_hook import AttentionVisualizationHook
from .prediction_hook import PredictionVisualizationHook

__all__ = ['AttentionVisualizationHook', 'PredictionVisualizationHook']
