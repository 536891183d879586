"""The arguments of `check`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from ...errors import ArgumentParser, UsageError
from ..flags import add_cfg_options, add_data_flags


def build_parser() -> argparse.ArgumentParser:
    """Which dataset, and how many processes read it."""
    parser = ArgumentParser(
        prog='mmseg-sclip check',
        description='Read every label map and every image header of the test dataset of a config as a test would, and '
        'say what is wrong. No weights are needed. The exit code is 1 where a test would be wrong or would stop.',
        epilog='example: mmseg-sclip check sclip_voc21 --data-root /data/VOC2012',
    )
    parser.add_argument('config', help='config file, or the name of a shipped config such as sclip_voc21')
    parser.add_argument(
        '--workers', type=int, metavar='N', help='processes that read files; 0 reads in this one (default: up to 8)'
    )
    add_data_flags(parser, 'look at the first N images of the dataset only')
    add_cfg_options(parser, 'test_dataloader.dataset.ann_file=val.txt')
    return parser


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The arguments, as far as they can be checked without a config.

    Raises:
        UsageError: They are wrong, or do not fit each other.
    """
    args = build_parser().parse_intermixed_args(argv)
    if args.workers is not None and args.workers < 0:
        raise UsageError(f'--workers is {args.workers}; it must be at least 0.')
    return args
