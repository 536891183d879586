"""Images: read as they are evaluated or as photographs, and packed for a model.

An evaluated image lies as its file stores it, since its ground truth is not turned either. A photograph is turned
upright by its EXIF tag. Both become 8-bit RGB by one reader, whatever their files hold.
"""

from .files import open_image, orientation, readable_suffixes
from .loading import CheckImageFile, LoadImage, is_turning
from .original import ORIGINAL, KeptImage
from .packing import pack_photograph, pack_without_truth, steps_after_loading
from .reading import AS_STORED, array_to_rgb, decode, is_deep, picture_to_rgb, read_evaluated, read_photograph

__all__ = [
    'AS_STORED',
    'ORIGINAL',
    'CheckImageFile',
    'KeptImage',
    'LoadImage',
    'array_to_rgb',
    'decode',
    'is_deep',
    'is_turning',
    'open_image',
    'orientation',
    'pack_photograph',
    'pack_without_truth',
    'picture_to_rgb',
    'read_evaluated',
    'read_photograph',
    'readable_suffixes',
    'steps_after_loading',
]
