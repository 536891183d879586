"""Models: importing this package registers every part with MMSegmentation."""

from . import methods
from .attention import Attention, ProductAttention
from .backbones import CLIPVisionTransformer
from .data_preprocessor import CLIPDataPreProcessor
from .decoders import Decoder, LastBlock, ParallelPath
from .heads import TextSimilarityHead
from .methods.clip_surgery import FeatureSurgeryHead
from .methods.maskclip import MaskCLIPHead
from .passes import run_passes
from .refinements import Refinement
from .segmentors import SCLIPSegmentor, SCLIPTTAModel
from .streams import BlockInput, Feedback, Memory, Tokens

__all__ = [
    'Attention',
    'BlockInput',
    'CLIPDataPreProcessor',
    'CLIPVisionTransformer',
    'Decoder',
    'FeatureSurgeryHead',
    'Feedback',
    'LastBlock',
    'MaskCLIPHead',
    'Memory',
    'ParallelPath',
    'ProductAttention',
    'Refinement',
    'SCLIPSegmentor',
    'SCLIPTTAModel',
    'TextSimilarityHead',
    'Tokens',
    'methods',
    'run_passes',
]
