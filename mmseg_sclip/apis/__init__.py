"""Using SCLIP from Python on your own pictures."""

from ..images import array_to_rgb, picture_to_rgb, read_photograph
from .inferencer import SCLIPInferencer
from .inputs import list_pictures
from .words import read_words

__all__ = [
    'SCLIPInferencer',
    'array_to_rgb',
    'list_pictures',
    'picture_to_rgb',
    'read_photograph',
    'read_words',
]
