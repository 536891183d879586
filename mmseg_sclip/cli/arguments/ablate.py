"""The arguments of `ablate`."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence

from ...ablation.rows import DATASETS, TABLES, check_names
from ...errors import ArgumentParser, UsageError
from ..flags import add_model_flags


def build_parser() -> argparse.ArgumentParser:
    """Which rows, on what, and the flags of tools/test.py that make sense for many runs."""
    parser = ArgumentParser(
        prog='mmseg-sclip ablate',
        description="Run the rows of the SCLIP paper's tables that can run with the data present, and compare "
        'them with the paper. The same command goes on where it was interrupted, and keeps what is finished.',
    )
    parser.add_argument('--table', nargs='+', required=True, choices=tuple(TABLES), help='which tables')
    parser.add_argument('--datasets', nargs='+', default=['demo'], choices=DATASETS, help='default: demo')
    parser.add_argument(
        '--rows',
        nargs='+',
        metavar='ROW',
        help='only these rows, such as sclip or q+k; with parameters: local:5, earlier:2, sharpening:3, random:8, '
        'q:gain=2, maskclip+pamr:steps=10,dilations=8-16 (default: all rows of the tables)',
    )
    parser.add_argument(
        '--demo-seed',
        type=int,
        nargs='+',
        default=[0],
        metavar='N',
        help="of the demo's scenes; with several, the tables have means and spreads (default: 0)",
    )
    parser.add_argument(
        '--demo-count', type=int, metavar='N', help="number of the demo's scenes (default: 100, the config's)"
    )
    parser.add_argument(
        '--out',
        type=os.path.expanduser,
        default='work_dirs/ablate',
        metavar='DIR',
        help='folder of the tables and of the finished rows (default: work_dirs/ablate)',
    )
    parser.add_argument(
        '--data-root',
        nargs='+',
        default=[],
        metavar='NAME=DIR',
        help="folder of a dataset, in place of its config's data_root, such as voc21=/data/VOC2012",
    )
    add_model_flags(parser, 'model.test_cfg.window_batch=32')
    return parser


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The arguments, as far as they can be checked without a config.

    Raises:
        UsageError: They are wrong, or do not fit each other.
    """
    args = build_parser().parse_args(argv)
    check_names(args.table, args.rows or ())
    if args.demo_count is not None and args.demo_count < 1:
        raise UsageError(f'--demo-count is {args.demo_count}; it must be at least 1.')
    return args
