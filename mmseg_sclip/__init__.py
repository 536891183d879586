"""Training-free open-vocabulary segmentation with CLIP for MMSegmentation: SCLIP and its relatives.

Importing the package registers its models, datasets and hooks. With mmcv-lite, import it before mmseg. Only the command
line registers them later, once it has parsed its arguments.
"""

import sys

from .version import __version__

__all__ = ['__version__', 'datasets', 'engine', 'images', 'models', 'visual']


def _parses_arguments_first() -> bool:
    """Whether this import is that of a command: of `mmseg_sclip_cli`, or of `python -m mmseg_sclip`."""
    words = sys.orig_argv
    # Python's name for a script until it has found the module, for which it imports the package first.
    as_module = sys.argv[:1] == ['-m'] and '-m' in words and words[words.index('-m') + 1] == __name__
    return as_module or getattr(sys.modules.get('mmseg_sclip_cli'), 'entering', False)


if not _parses_arguments_first():
    from .registering import datasets, engine, images, models, visual
