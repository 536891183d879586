"""Refinements: from scores and the image to better scores, one a file."""

from .base import Refinement
from .dense_crf import DenseCRF
from .foreground_only import ForegroundOnly
from .pamr import PAMR, pamr
from .segment_voting import SegmentVoting
from .text_propagation import TextLabelPropagation

__all__ = ['PAMR', 'DenseCRF', 'ForegroundOnly', 'Refinement', 'SegmentVoting', 'TextLabelPropagation', 'pamr']
