"""The arguments of `get-flops`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from ...errors import ArgumentParser, UsageError
from ..flags import add_model_flags


def build_parser() -> argparse.ArgumentParser:
    """MMSeg's flags, and those that choose the model."""
    parser = ArgumentParser(
        prog='mmseg-sclip get-flops',
        description='Count the multiply-adds of a config for a window and for an image, attention included. No weights '
        'are read or fetched, and nothing is computed; of a model hf-hub:ORG/REPO only the description is fetched.',
    )
    parser.add_argument('config', help='config file, or the name of a shipped config such as sclip_voc21')
    parser.add_argument(
        '--shape',
        type=int,
        nargs='+',
        metavar='N',
        help='height and width of the image file in pixels, or one side of a square (default: 375 500, typical of '
        'Pascal VOC; for the demo the size of a scene)',
    )
    add_model_flags(parser, 'model.test_cfg.crop_size=448', weights=False)
    parser.add_argument('--json', action='store_true', help='print JSON')
    return parser


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The arguments, as far as they can be checked without a config.

    Raises:
        UsageError: They are wrong, or do not fit each other.
    """
    args = build_parser().parse_intermixed_args(argv)
    shape = args.shape
    if shape is not None and (len(shape) > 2 or min(shape) < 1):
        raise UsageError(f'--shape is {" ".join(map(str, shape))}; it takes one or two positive numbers of pixels.')
    return args
