"""The seam of the refinements, and those that several methods share: from scores and the image to better scores."""

from .base import Refinement
from .dense_crf import DenseCRF
from .pamr import PAMR, pamr

__all__ = ['PAMR', 'DenseCRF', 'Refinement', 'pamr']
