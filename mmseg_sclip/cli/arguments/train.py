"""The arguments of `train`."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence

from ...errors import ArgumentParser, UsageError
from ..flags import add_launcher_flags, add_model_flags


def build_parser() -> argparse.ArgumentParser:
    """The flags of MMSeg's tools/train.py, and those of `test` that matter here."""
    parser = ArgumentParser(
        prog='mmseg-sclip train',
        description='Train what a config leaves trainable (the learned projection; CLIP itself stays as it is) and '
        'write a checkpoint for `test`. SCLIP and the other methods are training-free.',
    )
    parser.add_argument('config', help='config file, or the name of a shipped one such as sclip_learned_demo')
    parser.add_argument(
        '--work-dir', type=os.path.expanduser, help='folder of the checkpoint and the logs (default: work_dirs/CONFIG)'
    )
    parser.add_argument(
        '--resume', action='store_true', help='go on from the interrupted training in the work folder, if there is one'
    )
    parser.add_argument('--amp', action='store_true', help='mixed precision; not in this version')
    parser.add_argument('--seed', type=int, default=0, help='of the order of the images and their crops (default: 0)')
    parser.add_argument(
        '--data-root',
        type=os.path.expanduser,
        metavar='DIR',
        help="folder of the dataset, in place of train_dataloader's data_root",
    )
    add_model_flags(parser, 'optim_wrapper.optimizer.lr=0.001')
    add_launcher_flags(parser)
    return parser


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The arguments, as far as they can be checked without a config.

    Raises:
        UsageError: They are wrong, or do not fit each other.
    """
    args = build_parser().parse_args(argv)
    if args.amp:
        raise UsageError('--amp is not supported: the one matrix that is trained needs little memory. Run without it.')
    if not 0 <= args.seed < 2**32:
        raise UsageError(f'--seed is {args.seed}; it must be a whole number from 0 to {2**32 - 1}.')
    return args
