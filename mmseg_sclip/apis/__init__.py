"""Using SCLIP from Python on your own pictures."""

from .inferencer import SCLIPInferencer
from .inputs import list_pictures
from .photographs import array_to_rgb, picture_to_rgb, read_photograph
from .words import Words, read_words

__all__ = [
    'SCLIPInferencer',
    'Words',
    'array_to_rgb',
    'list_pictures',
    'picture_to_rgb',
    'read_photograph',
    'read_words',
]
