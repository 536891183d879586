"""Models: importing this package registers every part with MMSegmentation."""

from . import methods
from .affinity import Affinity
from .attention import Attention, ProductAttention
from .backbones import CLIPVisionTransformer
from .companions import Companion, Features
from .data_preprocessor import CLIPDataPreProcessor
from .decoders import Decoder, LastBlock, ParallelPath
from .heads import Head, TextSimilarityHead
from .methods.clip_surgery import FeatureSurgeryHead
from .methods.maskclip import MaskCLIPHead
from .parts import Part
from .record import BlockInput, Feedback, Record
from .refinements import Refinement
from .segmentors import SCLIPSegmentor, SCLIPTTAModel
from .steps import Propagation, Stitch
from .tokens import Tokens
from .towers import ImageTower

__all__ = [
    'Affinity',
    'Attention',
    'BlockInput',
    'CLIPDataPreProcessor',
    'CLIPVisionTransformer',
    'Companion',
    'Decoder',
    'FeatureSurgeryHead',
    'Features',
    'Feedback',
    'Head',
    'ImageTower',
    'LastBlock',
    'MaskCLIPHead',
    'ParallelPath',
    'Part',
    'ProductAttention',
    'Propagation',
    'Record',
    'Refinement',
    'SCLIPSegmentor',
    'SCLIPTTAModel',
    'Stitch',
    'TextSimilarityHead',
    'Tokens',
    'methods',
]
