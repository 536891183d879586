"""Hooks and the loading step that the configs use."""

from .loading import LoadCheckedImage
from .visualization import PredictionVisualizationHook
from .vocabulary_check import VocabularyCheckHook

__all__ = ['LoadCheckedImage', 'PredictionVisualizationHook', 'VocabularyCheckHook']
