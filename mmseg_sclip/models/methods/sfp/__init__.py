"""SFP ("Feature Purification Matters", ICCV 2025), on the decoder of SC-CLIP."""

from .attention import PurifiedAttention
from .detectors import AttentionOutliers, DensityOutliers, NormOutliers, OutlierDetector

__all__ = ['AttentionOutliers', 'DensityOutliers', 'NormOutliers', 'OutlierDetector', 'PurifiedAttention']
