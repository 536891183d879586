"""`tools/train.py` and `mmseg-sclip train`: train the learned projection, the one weight that is trained."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path

from mmengine.config import Config

from ..learning import check_trains, train_projection
from .configuring import apply_clip_flags, find_device, load_config
from .data_checks import check_test_files
from .errors import ArgumentParser, UsageError
from .flags import add_launcher_flags, add_model_flags


def build_parser() -> argparse.ArgumentParser:
    """The flags of MMSeg's tools/train.py, and those of `test` that matter here."""
    parser = ArgumentParser(
        prog='mmseg-sclip train',
        description='Train what a config leaves trainable (the learned projection; CLIP itself stays as it is) and '
        'write a checkpoint for `test`. SCLIP and the other methods are training-free.',
    )
    parser.add_argument('config', help='config file, or the name of a shipped one such as ablations/sclip_learned_demo')
    parser.add_argument('--work-dir', help='folder of the checkpoint and the logs (default: work_dirs/CONFIG)')
    parser.add_argument(
        '--resume', action='store_true', help='go on from the interrupted training in the work folder, if there is one'
    )
    parser.add_argument('--amp', action='store_true', help='mixed precision; not in this version')
    parser.add_argument('--seed', type=int, default=0, help='of the order of the images and their crops (default: 0)')
    parser.add_argument(
        '--data-root', metavar='DIR', help="folder of the dataset, in place of train_dataloader's data_root"
    )
    add_model_flags(parser, 'optim_wrapper.optimizer.lr=0.001')
    add_launcher_flags(parser)
    return parser


def main(argv: Sequence[str]) -> int:
    """Run the training; see `--help`.

    Raises:
        UsageError: The flags do not fit each other or the machine.
        ValueError: The config is wrong, or trains nothing.
        FileNotFoundError: Data, weights or the config are missing.
    """
    args = build_parser().parse_args(argv)
    _refuse_what_is_not_built(args)
    config = load_config(args.config, args.cfg_options)
    check_trains(config)
    apply_clip_flags(config, args.model_name, args.pretrained)
    if args.data_root:
        config.train_dataloader.dataset.data_root = args.data_root
    _check_files(config)
    work_dir = Path(args.work_dir or config.get('work_dir') or Path('work_dirs') / Path(args.config).stem)
    checkpoint = train_projection(config, work_dir, args.seed, find_device(args.device), args.resume)
    command = ['python', 'tools/test.py', args.config, str(checkpoint)]
    for flag, value in (('--model-name', args.model_name), ('--pretrained', args.pretrained)):
        command += [] if value is None else [flag, value]
    print(f'The checkpoint is {checkpoint.resolve()}\nTest it: {shlex.join(command)}')
    return 0


def _refuse_what_is_not_built(args: argparse.Namespace) -> None:
    if args.launcher != 'none':
        raise UsageError(f'--launcher {args.launcher} is not supported. Run on one device, without --launcher.')
    if args.amp:
        raise UsageError('--amp is not supported: the one matrix that is trained needs little memory. Run without it.')
    if not 0 <= args.seed < 2**32:
        raise UsageError(f'--seed is {args.seed}; it must be a whole number from 0 to {2**32 - 1}.')


def _check_files(config: Config) -> None:
    """The check of the test's files, on the files of the training."""
    try:
        check_test_files(Config(dict(test_dataloader=config.train_dataloader)))
    except FileNotFoundError as error:
        raise FileNotFoundError(str(error).replace('test_dataloader', 'train_dataloader')) from error
