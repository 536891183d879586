"""The seam of the decoders, and those that several methods share: which blocks are rebuilt, and how."""

from .base import Decoder
from .companion_grid import CompanionGrid
from .groups import GroupDecoder
from .last_block import LastBlock
from .parallel_path import ParallelPath

__all__ = ['CompanionGrid', 'Decoder', 'GroupDecoder', 'LastBlock', 'ParallelPath']
