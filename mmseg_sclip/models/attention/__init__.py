"""Attention strategies: what attends to what inside a block. One strategy a file."""

from ..streams import BlockInput, Feedback
from .base import Attention, ProductAttention
from .block_mean import BlockMeanAttention
from .csa import CorrelativeSelfAttention
from .earlier import EarlierAttention
from .early_layer import EarlyLayerAttention
from .identity import IdentityAttention
from .local import LocalSelfAttention
from .neighbour import NeighbourAttention, NeighbourPriorAttention, gaussian_prior
from .procrustes import ProcrustesAttention
from .projections import Projection
from .purified import PurifiedAttention
from .residual_cross_correlation import ResidualCrossCorrelation
from .self_calibrated import SelfCalibratedAttention
from .self_self import SelfSelfAttention
from .semantic_feedback import SemanticFeedback
from .sharpened import SharpenedSelfAttention
from .vanilla import VanillaSelfAttention

__all__ = [
    'Attention',
    'BlockInput',
    'BlockMeanAttention',
    'CorrelativeSelfAttention',
    'EarlierAttention',
    'EarlyLayerAttention',
    'Feedback',
    'IdentityAttention',
    'LocalSelfAttention',
    'NeighbourAttention',
    'NeighbourPriorAttention',
    'ProcrustesAttention',
    'ProductAttention',
    'Projection',
    'PurifiedAttention',
    'ResidualCrossCorrelation',
    'SelfCalibratedAttention',
    'SelfSelfAttention',
    'SemanticFeedback',
    'SharpenedSelfAttention',
    'VanillaSelfAttention',
    'gaussian_prior',
]
