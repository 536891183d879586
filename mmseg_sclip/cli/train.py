"""`tools/train.py` and `mmseg-sclip train`: train the learned projection, the one weight that is trained."""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from mmengine.dist import is_main_process

from ..config import apply_clip_flags, check_is_clip, find_device, load_config
from ..datasets.check_files import check_files
from ..engine.distributed import join_processes
from ..engine.learning import check_trains, train_projection
from ..errors import ArgumentParser, UsageError
from ..options import refuse_overwritten
from .ending import program
from .flags import add_launcher_flags, add_model_flags


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


def main(argv: Sequence[str]) -> int:
    """Run the training; see `--help`.

    Raises:
        UsageError: The flags do not fit each other or the machine.
        ConfigError: The config is wrong, has no CLIP, or trains nothing.
        MissingFileError: Data, weights or the config are missing.
    """
    args = build_parser().parse_args(argv)
    _check_flags(args)
    refuse_overwritten(args.cfg_options, {'randomness': 'the flag --seed settles it.'})
    device = find_device(args.device)
    if args.launcher != 'none':
        device = join_processes(args.launcher, device)
    config = load_config(args.config, args.cfg_options, own_modules=True)
    check_is_clip(config)
    check_trains(config)
    apply_clip_flags(config, args.model_name, args.pretrained)
    if args.data_root:
        config.train_dataloader.dataset.data_root = args.data_root
    check_files(config.train_dataloader.dataset, 'train_dataloader')
    work_dir = Path(args.work_dir or config.get('work_dir') or Path('work_dirs') / Path(args.config).stem)
    config.launcher = args.launcher
    checkpoint = train_projection(config, work_dir, args.seed, device, args.resume)
    if not is_main_process():
        return 0
    command = [*program('test'), args.config, str(checkpoint)]
    for flag, value in (('--model-name', args.model_name), ('--pretrained', args.pretrained)):
        command += [] if value is None else [flag, value]
    words = [word.removeprefix('--cfg-options=') for word in argv]
    options = [word for word in words if word.startswith('model.') and '=' in word]
    command += ['--cfg-options', *options] if options else []
    print(f'The checkpoint is {checkpoint.resolve()}\nTest it: {shlex.join(command)}')
    return 0


def _check_flags(args: argparse.Namespace) -> None:
    if args.amp:
        raise UsageError('--amp is not supported: the one matrix that is trained needs little memory. Run without it.')
    if not 0 <= args.seed < 2**32:
        raise UsageError(f'--seed is {args.seed}; it must be a whole number from 0 to {2**32 - 1}.')
