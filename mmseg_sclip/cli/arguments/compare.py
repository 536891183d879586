"""The arguments of `compare`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from ...errors import ArgumentParser, UsageError
from ..flags import add_data_flags, add_figure_flags, add_model_flags, check_figure_flags


def build_parser() -> argparse.ArgumentParser:
    """Which configs, which images, and what the figure shows."""
    parser = ArgumentParser(
        prog='mmseg-sclip compare',
        description='Draw images, the predictions of several configs and the ground truth in one figure, and print '
        'the mIoU of each image. Everything runs as in the evaluation; the models of one pass are in memory at a time.',
    )
    parser.add_argument(
        'configs', nargs='+', metavar='CONFIG', help='config files or names of shipped configs, all of one dataset'
    )
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument(
        '--images',
        nargs='+',
        metavar='IMAGE',
        help='image files, or images of the dataset by their stem or path; files from elsewhere have no ground truth, '
        'and are shown upright',
    )
    which.add_argument('--worst', type=int, metavar='N', help='the N images of the dataset with the lowest mIoU')
    which.add_argument('--best', type=int, metavar='N', help='the N images of the dataset with the highest mIoU')
    parser.add_argument(
        '--by',
        choices=('first', 'last', 'gain'),
        default='first',
        help='with --worst and --best: the mIoU of the first config (default), of the last, or what the last gains '
        'over the first',
    )
    parser.add_argument(
        '--gt',
        action=argparse.BooleanOptionalAction,
        default=None,
        help='show the ground truth (default: where there is one); --gt refuses images that have none',
    )
    parser.add_argument(
        '--error-map', action='store_true', help='below each prediction, where it is right, wrong or not counted'
    )
    parser.add_argument(
        '--opacity', type=float, default=1.0, help='of the colours over the image, 0 to 1 (default: 1, colours only)'
    )
    parser.add_argument(
        '--rows', type=int, default=6, metavar='N', help='images in one figure; more make more figures (default: 6)'
    )
    add_figure_flags(parser, 'work_dirs/compare')
    add_data_flags(parser, 'with --worst and --best: look only at the first N images of the dataset')
    add_model_flags(parser, 'model.test_cfg.window_batch=32')
    return parser


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The arguments, as far as they can be checked without a config.

    Raises:
        UsageError: They are wrong, or do not fit each other.
    """
    args = build_parser().parse_intermixed_args(argv)
    check_figure_flags(args)
    for flag in ('worst', 'best', 'rows'):
        value = getattr(args, flag)
        if value is not None and value < 1:
            raise UsageError(f'--{flag.replace("_", "-")} is {value}; it must be at least 1.')
    if not 0 <= args.opacity <= 1:
        raise UsageError(f'--opacity is {args.opacity}; it must be a number from 0 to 1.')
    if args.images and (args.max_images is not None or args.by != 'first'):
        raise UsageError('--by and --max-images belong to --worst and --best. Leave them out with --images.')
    if args.by == 'gain' and len(args.configs) < 2:
        raise UsageError('--by gain compares the last config with the first, and there is one only. Give two or more.')
    return args
