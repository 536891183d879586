"""Decoders: which blocks are rebuilt, and how the streams run through them."""

from .base import Decoder
from .early_layer_fusion import EarlyLayerFusion
from .last_block import LastBlock
from .last_block_with_affinity import LastBlockWithAffinity
from .parallel_path import ParallelPath
from .self_calibrated import SelfCalibratedDecoder
from .with_mean_attention import WithMeanAttention

__all__ = [
    'Decoder',
    'EarlyLayerFusion',
    'LastBlock',
    'LastBlockWithAffinity',
    'ParallelPath',
    'SelfCalibratedDecoder',
    'WithMeanAttention',
]
