"""Hooks and the loading step that the configs use."""

from .attention_hook import AttentionVisualizationHook
from .iou_metric import ExactIoUMetric
from .loading import LoadCheckedImage
from .projection_checkpoint import ProjectionCheckpointHook
from .visualization import PredictionVisualizationHook
from .vocabulary_check import VocabularyCheckHook

__all__ = [
    'AttentionVisualizationHook',
    'ExactIoUMetric',
    'LoadCheckedImage',
    'PredictionVisualizationHook',
    'ProjectionCheckpointHook',
    'VocabularyCheckHook',
]
