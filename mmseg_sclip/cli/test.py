"""`tools/test.py` and `mmseg-sclip test`: measure a config on its dataset."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from mmengine.config import Config
from mmengine.dist import is_main_process
from mmseg.registry import HOOKS

from ..checks import is_a
from ..config import (
    apply_data_flags,
    apply_pamr,
    check_checkpoint,
    find_device,
    load_config,
)
from ..engine.distributed import join_processes
from ..engine.evaluation import evaluate
from ..engine.ignored import is_iou, metrics_in
from ..errors import ConfigError
from ..model_flags import apply_model_flags
from ..visual.prediction_hook import PredictionVisualizationHook
from .arguments.test import parse
from .ending import tell_losses, telling_how_to_go_on


def main(argv: Sequence[str]) -> int:
    """Run the test; see `--help`.

    Raises:
        UsageError: The flags do not fit each other or the machine.
        ConfigError: The config is wrong.
        MissingFileError: Data, weights or the config are missing.
        OutputError: An output would land where inputs lie, or cannot be written.
    """
    args = parse(argv)
    device = find_device(args.device)
    if args.launcher != 'none':
        device = join_processes(args.launcher, device)
    config = load_config(args.config, args.cfg_options, own_modules=True)
    apply_model_flags(config, args.model_name, args.pretrained, args.weights)
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
