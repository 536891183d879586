"""Hooks, the metric and the loop that the configs use."""

from .distributed import FrozenModelWrapper
from .learning import ProjectionCheckpointHook
from .loop import EvaluationLoop, EvaluationSampler, collate_readable
from .metric import ExactIoUMetric
from .progress import ProgressHook
from .references_hook import ReferencesHook
from .setup_hook import SetupHook
from .vocabulary_check import VocabularyCheckHook

__all__ = [
    'EvaluationLoop',
    'EvaluationSampler',
    'ExactIoUMetric',
    'FrozenModelWrapper',
    'ProgressHook',
    'ProjectionCheckpointHook',
    'ReferencesHook',
    'SetupHook',
    'VocabularyCheckHook',
    'collate_readable',
]
