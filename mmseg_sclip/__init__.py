"""Training-free open-vocabulary segmentation with CLIP for MMSegmentation: SCLIP and its relatives.

Importing the package registers its models, datasets and hooks. With mmcv-lite, import it before mmseg.
"""

from .compat import prepare

prepare()  # before any import that reaches mmseg

from . import datasets, engine, images, models, visual  # noqa: E402
from .version import __version__  # noqa: E402

__all__ = ['__version__', 'datasets', 'engine', 'images', 'models', 'visual']
