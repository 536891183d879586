"""Decoders: which blocks are rebuilt, and how the streams run through them."""

from .base import Decoder, Tokens
from .last_block import LastBlock

__all__ = ['Decoder', 'LastBlock', 'Tokens']
