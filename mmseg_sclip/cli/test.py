"""`tools/test.py` and `mmseg-sclip test`: measure a config on its dataset."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from mmengine.config import Config
from mmengine.dist import is_main_process
from mmseg.registry import HOOKS

from ..checks import is_a
from ..config import (
    apply_clip_flags,
    apply_data_flags,
    apply_pamr,
    check_checkpoint,
    find_device,
    load_config,
)
from ..engine.distributed import join_processes
from ..engine.evaluation import ON_ERROR, evaluate
from ..engine.ignored import is_iou, metrics_in
from ..errors import ArgumentParser, ConfigError, UsageError
from ..visual.prediction_hook import PredictionVisualizationHook
from .ending import tell_losses, telling_how_to_go_on
from .flags import add_data_flags, add_launcher_flags, add_model_flags


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
        '--resume', action='store_true', help='go on behind the images that an interrupted test has finished'
    )
    parser.add_argument(
        '--on-error',
        choices=ON_ERROR,
        default='stop',
        help='what to do at a sample that cannot be read: stop, or skip it and list it at the end (default: stop)',
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the test; see `--help`.

    Raises:
        UsageError: The flags do not fit each other or the machine.
        ConfigError: The config is wrong.
        MissingFileError: Data, weights or the config are missing.
        OutputError: An output would land where inputs lie, or cannot be written.
    """
    args = build_parser().parse_intermixed_args(argv)  # the checkpoint may stand behind flags
    _check_flags(args)
    device = find_device(args.device)
    if args.launcher != 'none':
        device = join_processes(args.launcher, device)
    config = load_config(args.config, args.cfg_options, own_modules=True)
    apply_clip_flags(config, args.model_name, args.pretrained)
    apply_pamr(config, args.pamr)
    _apply_flags(config, args)
    config.launcher = args.launcher
    with telling_how_to_go_on('test', argv, args.launcher):
        result = evaluate(config, device, args.tta, args.resume, args.on_error)
    if is_main_process():
        _report(result, args)
    return 0


def _report(result: Mapping, args: argparse.Namespace) -> None:
    """Print where things are, what was skipped and what could not be written.

    Raises:
        OutputError: Something could not be written.
    """
    for what, folder in (('pictures', args.show_dir), ('label maps', args.out)):
        if folder and not result['unwritten']:
            number = 'The' if args.resume else result['images']
            only = ' of the images that were not finished before' if args.resume else ''
            print(f'{number} {what}{only} are in {Path(folder).resolve()}')
    miou = result['metrics'].get('mIoU')
    tell_losses([result], 'The evaluation is done' + ('' if miou is None else f' (mIoU {miou:.2f})'))


def _check_flags(args: argparse.Namespace) -> None:
    screen = sys.platform != 'linux' or os.environ.get('DISPLAY') or os.environ.get('WAYLAND_DISPLAY')
    if args.show and not screen:
        raise UsageError(
            '--show needs a screen, and there is none here. Write the pictures to a folder: --show-dir DIR.'
        )
    if args.show and args.show_dir:
        raise UsageError('--show opens windows and saves nothing. Give --show or --show-dir, not both.')


def _apply_flags(config: Config, args: argparse.Namespace) -> None:
    """Put the flags where MMEngine's runner looks for them."""
    config.work_dir = args.work_dir or config.get('work_dir') or str(Path('work_dirs') / Path(args.config).stem)
    if args.checkpoint:
        config.load_from = args.checkpoint
    source = 'SCLIP needs none: leave it out' if args.checkpoint else 'It is the load_from of the config'
    check_checkpoint(config, f'{source}, or correct the path.')
    apply_data_flags(config, args.data_root, args.max_images, args.bands)
    if args.out:
        writer = next(filter(is_iou, metrics_in(config)), None)
        if writer is None:
            raise ConfigError(
                '--out: only an IoUMetric writes label maps, and test_evaluator has none. Leave --out out.'
            )
        writer.output_dir = args.out
    config.default_hooks = config.get('default_hooks') or {}
    config.default_hooks['progress'] = dict(type='ProgressHook')
    if args.show or args.show_dir:
        given = config.default_hooks.get('visualization') or {}
        ours = 'type' in given and is_a(HOOKS, given, PredictionVisualizationHook)
        config.default_hooks['visualization'] = dict(
            type='PredictionVisualizationHook',
            draw=True,
            interval=given.get('interval', 1) if ours else 1,
            show=args.show,
            wait_time=args.wait_time,
            out_dir=args.show_dir,
        )
