"""Hooks and the loading step that the configs use."""

from .iou_metric import ExactIoUMetric
from .loading import LoadCheckedImage
from .projection_checkpoint import ProjectionCheckpointHook
from .visualization import PredictionVisualizationHook
from .vocabulary_check import VocabularyCheckHook

__all__ = [
    'ExactIoUMetric',
    'LoadCheckedImage',
    'PredictionVisualizationHook',
    'ProjectionCheckpointHook',
    'VocabularyCheckHook',
]
