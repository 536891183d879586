"""ResCLIP (arXiv 2411.15851)."""

from .cross_correlation import ResidualCrossCorrelation
from .feedback import SemanticFeedback

__all__ = ['ResidualCrossCorrelation', 'SemanticFeedback']
