"""The arguments of `test`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from ...errors import ArgumentParser, UsageError
from ..flags import ON_ERROR, add_data_flags, add_launcher_flags, add_model_flags


def build_parser() -> argparse.ArgumentParser:
    """The flags of MMSeg's tools/test.py, and those that a training-free method needs."""
    parser = ArgumentParser(
        prog='mmseg-sclip test',
        description='Measure a config on its test dataset (mIoU), and write label maps or pictures.',
    )
    parser.add_argument('config', help='config file, or the name of a shipped config such as sclip_voc21')
    parser.add_argument(
        'checkpoint', nargs='?', help="a trained model's, such as one of MMSegmentation; SCLIP itself needs none"
    )
    parser.add_argument(
        '--work-dir',
        type=os.path.expanduser,
        help='folder of logs and of the metrics as json (default: work_dirs/CONFIG)',
    )
    parser.add_argument(
        '--out',
        type=os.path.expanduser,  # a shell leaves --out=~/maps as it is
        metavar='DIR',
        help='write the label maps to this folder as PNG; where label 0 is ignored '
        'by the dataset (reduce_zero_label) they are raised by one, as the dataset stores them',
    )
    parser.add_argument('--show', action='store_true', help='show each prediction in a window')
    parser.add_argument(
        '--show-dir', type=os.path.expanduser, metavar='DIR', help='write a picture of each prediction to this folder'
    )
    parser.add_argument('--wait-time', type=float, default=2, metavar='S', help='seconds that a window of --show stays')
    parser.add_argument('--pamr', type=int, metavar='STEPS', help='refine the edges with PAMR, e.g. 10; 0 is off')
    add_data_flags(parser)
    add_model_flags(parser, 'model.test_cfg.logit_scale=50')
    add_launcher_flags(parser)
    parser.add_argument(
        '--tta', action='store_true', help='test-time augmentation: average several scales and a flip of each image'
    )
    parser.add_argument(
        '--resume', action='store_true', help='go on after the images that an interrupted test has finished'
    )
    parser.add_argument(
        '--on-error',
        choices=ON_ERROR,
        default='stop',
        help='what to do at a sample that cannot be read: stop, or skip it and list it at the end (default: stop)',
    )
    return parser


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The arguments, as far as they can be checked without a config.

    Raises:
        UsageError: They are wrong, or do not fit each other.
    """
    args = build_parser().parse_intermixed_args(argv)  # the checkpoint may stand after flags
    screen = sys.platform != 'linux' or os.environ.get('DISPLAY') or os.environ.get('WAYLAND_DISPLAY')
    if args.show and not screen:
        raise UsageError(
            '--show needs a screen, and there is none here. Write the pictures to a folder: --show-dir DIR.'
        )
    if args.show and args.show_dir:
        raise UsageError('--show opens windows and saves nothing. Give --show or --show-dir, not both.')
    return args
