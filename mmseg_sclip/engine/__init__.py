"""Hooks, the metric and the loop that the configs use."""

from .distributed import FrozenModelWrapper
from .loop import EvaluationLoop, EvaluationSampler, collate_readable
from .metric import ExactIoUMetric
from .progress import ProgressHook
from .projection_checkpoint import ProjectionCheckpointHook
from .vocabulary_check import VocabularyCheckHook

__all__ = [
    'EvaluationLoop',
    'EvaluationSampler',
    'ExactIoUMetric',
    'FrozenModelWrapper',
    'ProgressHook',
    'ProjectionCheckpointHook',
    'VocabularyCheckHook',
    'collate_readable',
]
