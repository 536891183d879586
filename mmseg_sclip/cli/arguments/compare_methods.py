"""The arguments of `compare-methods`."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from ...errors import ArgumentParser, UsageError
from ..flags import ON_ERROR, add_data_flags, add_launcher_flags, add_model_flags


def build_parser() -> argparse.ArgumentParser:
    """Which methods, on which dataset, under which protocols."""
    parser = ArgumentParser(
        prog='mmseg-sclip compare-methods',
        description='Test several methods on one dataset. Each image is decoded once and the image tower runs once for '
        'all methods that share it; the numbers are those of separate runs of tools/test.py.',
        epilog='example: mmseg-sclip compare-methods demo --methods clip sclip naclip gem --protocol own common',
    )
    parser.add_argument('dataset', help='name of a dataset as in the names of configs, such as voc21 or demo')
    parser.add_argument(
        '--methods',
        nargs='+',
        required=True,
        metavar='NAME',
        help='names of methods (mmseg-sclip configs lists <method>_<dataset>), or config files for that dataset, which '
        'are taken as they are under both protocols',
    )
    parser.add_argument(
        '--protocol',
        nargs='+',
        choices=('own', 'common'),
        default=['own'],
        help="own: each method's image size, windows, words and thresholds; common: SCLIP's for all (default: own)",
    )
    parser.add_argument(
        '--seeds', nargs='+', type=int, metavar='N', help="of the demo's scenes; the table has means and spreads"
    )
    parser.add_argument(
        '--out',
        type=os.path.expanduser,
        metavar='DIR',
        help='folder of the results (default: work_dirs/methods_DATASET)',
    )
    parser.add_argument(
        '--resume', action='store_true', help='keep finished passes, and go on after the finished images of the next'
    )
    parser.add_argument('--on-error', choices=ON_ERROR, default='stop', help='at a sample that cannot be read')
    add_data_flags(parser)
    add_model_flags(parser, 'test_dataloader.num_workers=4')
    add_launcher_flags(parser)
    return parser


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The arguments, as far as they can be checked without a config.

    Raises:
        UsageError: They are wrong, or do not fit each other.
    """
    args = build_parser().parse_args(argv)
    if len({Path(name).stem for name in args.methods}) != len(args.methods):
        raise UsageError(f'--methods names one of them twice: {" ".join(args.methods)}. Each has a folder of its name.')
    if args.seeds and args.dataset != 'demo':
        raise UsageError(f'--seeds is for the scenes of the demo, not for {args.dataset}. Leave it out.')
    return args
