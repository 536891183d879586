"""The seam of the decoders, and those that several methods share: which blocks are rebuilt, and how."""

from .base import Decoder
from .last_block import LastBlock
from .parallel_path import ParallelPath

__all__ = ['Decoder', 'LastBlock', 'ParallelPath']
