"""Models: importing this package registers every part with MMSegmentation."""

from .attention import Attention, BlockInput, Feedback
from .backbones import CLIPVisionTransformer
from .data_preprocessor import CLIPDataPreProcessor
from .decoders import Decoder, LastBlock, Tokens
from .heads import MaskCLIPHead, TextSimilarityHead
from .segmentors import SCLIPSegmentor

__all__ = [
    'Attention',
    'BlockInput',
    'CLIPDataPreProcessor',
    'CLIPVisionTransformer',
    'Decoder',
    'Feedback',
    'LastBlock',
    'MaskCLIPHead',
    'SCLIPSegmentor',
    'TextSimilarityHead',
    'Tokens',
]
