"""Pictures: overlays, attention maps, comparisons, and the hooks that draw them. Importing registers the hooks."""

from .attention_hook import AttentionVisualizationHook
from .prediction_hook import PredictionVisualizationHook

__all__ = ['AttentionVisualizationHook', 'PredictionVisualizationHook']
