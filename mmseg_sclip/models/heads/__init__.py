"""Heads: from features and the text bank to scores."""

from .class_token import ClassTokenHead
from .early_layer_fusion import EarlyLayerFusionHead
from .feature_surgery import FeatureSurgeryHead, feature_surgery, similarity_map
from .maps import MapHead
from .maskclip import MaskCLIPHead
from .redundancy_purification import RedundancyPurificationHead
from .text_similarity import TextSimilarityHead

__all__ = [
    'ClassTokenHead',
    'EarlyLayerFusionHead',
    'FeatureSurgeryHead',
    'MapHead',
    'MaskCLIPHead',
    'RedundancyPurificationHead',
    'TextSimilarityHead',
    'feature_surgery',
    'similarity_map',
]
