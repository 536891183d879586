"""`tools/test.py` and `mmseg-sclip test`: measure a config on its dataset."""

from __future__ import annotations

import argparse
import inspect
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.runner import Runner
from mmengine.visualization import Visualizer
from mmseg.registry import VISUALIZERS

from ..engine import PredictionVisualizationHook
from ..engine.vocabulary_check import add_vocabulary_check
from .configuring import apply_clip_flags, find_device, load_config
from .data_checks import check_test_files, name_files_in_errors
from .errors import ArgumentParser, UsageError
from .flags import add_launcher_flags, add_model_flags


def build_parser() -> argparse.ArgumentParser:
    """The flags of MMSeg's tools/test.py, and those that a training-free method needs."""
    parser = ArgumentParser(
        prog='mmseg-sclip test',
        description='Measure a config on its test dataset (mIoU), and write label maps or pictures.',
    )
    parser.add_argument('config', help='config file, or the name of a shipped config such as sclip_voc21')
    parser.add_argument('checkpoint', nargs='?', help='weights trained on top of CLIP; SCLIP itself needs none')
    parser.add_argument('--work-dir', help='folder of logs and of the metrics as json (default: work_dirs/CONFIG)')
    parser.add_argument(
        '--out',
        metavar='DIR',
        help='write the label maps to this folder as PNG; where label 0 is ignored '
        'by the dataset (reduce_zero_label) they are raised by one, as the dataset stores them',
    )
    parser.add_argument('--show', action='store_true', help='show each prediction in a window')
    parser.add_argument('--show-dir', metavar='DIR', help='write a picture of each prediction to this folder')
    parser.add_argument('--wait-time', type=float, default=2, metavar='S', help='seconds that a window of --show stays')
    parser.add_argument(
        '--data-root',
        metavar='DIR',
        help="folder of the dataset, in place of the config's data_root (for VOC the folder VOC2012 itself)",
    )
    add_model_flags(parser, 'model.test_cfg.logit_scale=50')
    add_launcher_flags(parser)
    parser.add_argument('--tta', action='store_true', help='test-time augmentation; not in this version')
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the test; see `--help`.

    Raises:
        UsageError: The flags do not fit each other or the machine.
        ValueError: The config is wrong.
        FileNotFoundError: Data, weights or the config are missing.
    """
    args = build_parser().parse_intermixed_args(argv)  # the checkpoint may stand behind flags
    _refuse_what_is_not_built(args)
    config = load_config(args.config, args.cfg_options)
    apply_clip_flags(config, args.model_name, args.pretrained)
    _apply_flags(config, args)
    check_test_files(config)
    runner = build_runner(config, find_device(args.device))
    runner.test()
    if args.show_dir:
        written = sum(hook.written for hook in runner.hooks if isinstance(hook, PredictionVisualizationHook))
        print(f'{written} pictures are in {Path(args.show_dir).resolve()}')
    if args.out:
        print(f'The label maps are in {Path(args.out).resolve()}')
    return 0


def _refuse_what_is_not_built(args: argparse.Namespace) -> None:
    if args.launcher != 'none':
        raise UsageError(f'--launcher {args.launcher} is not supported yet. Run on one device, without --launcher.')
    if args.tta:
        raise UsageError('--tta is not supported yet. Run without it.')
    if (
        args.show
        and os.name == 'posix'
        and os.uname().sysname == 'Linux'
        and not (os.environ.get('DISPLAY') or os.environ.get('WAYLAND_DISPLAY'))
    ):
        raise UsageError(
            '--show needs a screen, and there is none here. Write the pictures to a folder: --show-dir DIR.'
        )
    if args.show and args.show_dir:
        raise UsageError('--show opens windows and saves nothing. Give --show or --show-dir, not both.')
    if args.checkpoint and _is_missing(args.checkpoint):
        raise FileNotFoundError(f'There is no checkpoint {args.checkpoint}. SCLIP needs none: leave it out.')
    for flag in ('work_dir', 'out', 'show_dir'):
        _check_folder(f'--{flag.replace("_", "-")}', getattr(args, flag))


def _is_missing(checkpoint: str) -> bool:
    """Whether a checkpoint is no file; one at an address, such as https://, is left to MMEngine."""
    return '://' not in checkpoint and not Path(checkpoint).is_file()


def _check_folder(name: str, value: str | None) -> None:
    """Refuse what cannot be made a folder, before an hour of work finds out."""
    for path in () if not value else (Path(value), *Path(value).parents):
        if path.exists() and not path.is_dir():
            raise UsageError(f'{name} {value} must be a folder, but {path} is a file. Name another folder.')


def _apply_flags(config: Config, args: argparse.Namespace) -> None:
    """Put the flags where MMEngine's runner looks for them."""
    config.work_dir = args.work_dir or config.get('work_dir') or str(Path('work_dirs') / Path(args.config).stem)
    _check_folder('work_dir', config.work_dir)
    if args.checkpoint:
        config.load_from = args.checkpoint
    elif config.get('load_from') and _is_missing(str(config.load_from)):
        raise FileNotFoundError(
            f"There is no checkpoint {config.load_from}, which the config's load_from names. Correct it, or set "
            'load_from=None: SCLIP needs none.'
        )
    if args.data_root:
        config.test_dataloader.dataset.data_root = args.data_root
    if args.out:
        evaluators = config.test_evaluator if isinstance(config.test_evaluator, list) else [config.test_evaluator]
        for evaluator in evaluators:
            evaluator.output_dir = args.out
    if args.show or args.show_dir:
        _make_drawable(config, '--show-dir' if args.show_dir else '--show')
        if config.get('default_hooks') is None:
            config.default_hooks = {}
        config.default_hooks['visualization'] = dict(
            type='PredictionVisualizationHook',
            draw=True,
            interval=1,
            show=args.show,
            wait_time=args.wait_time,
            out_dir=args.show_dir,
        )
    add_vocabulary_check(config)


def _make_drawable(config: Config, flag: str) -> None:
    """Give a config without a visualizer MMSeg's, since MMEngine's default draws nothing; refuse others of that kind.

    Raises:
        ValueError: The config's visualizer cannot draw predictions.
    """
    if config.get('visualizer') is None:
        config.visualizer = dict(
            type='SegLocalVisualizer', vis_backends=[dict(type='LocalVisBackend')], name='visualizer'
        )
        return
    name = config.visualizer.get('type') if isinstance(config.visualizer, Mapping) else config.visualizer
    cls = VISUALIZERS.get(name) if isinstance(name, str) else name
    draw = getattr(cls, 'add_datasample', Visualizer.add_datasample)
    if draw is Visualizer.add_datasample or 'out_file' not in inspect.signature(draw).parameters:
        raise ValueError(
            f'{flag} needs a visualizer that draws predictions, and {name!r} of the config does not. Set '
            "visualizer=dict(type='SegLocalVisualizer', vis_backends=[dict(type='LocalVisBackend')], "
            "name='visualizer'), or take the line out."
        )


def build_runner(config: Config, device: torch.device | None) -> Runner:
    """MMEngine's runner, on the device of choice, with errors that name files."""

    class DeviceRunner(Runner):
        def wrap_model(self, model_wrapper_cfg, model):
            return super().wrap_model(model_wrapper_cfg, model) if device is None else model.to(device)

        def load_checkpoint(self, filename, *args, **kwargs):
            try:
                return super().load_checkpoint(filename, *args, **kwargs)
            except ValueError:  # the model's own words
                raise
            except Exception as error:  # torch raises many kinds
                reason = str(error).strip().partition('\n')[0].partition('. ')[0]
                raise ValueError(
                    f'The checkpoint {filename} cannot be loaded ({reason or type(error).__name__}). It is damaged, or '
                    "holds more than tensors: it must be dict(meta=..., state_dict=...), readable with torch.load's "
                    'weights_only.'
                ) from error

        @staticmethod
        def build_dataloader(*args, **kwargs):
            loader = Runner.build_dataloader(*args, **kwargs)
            name_files_in_errors(loader.dataset)
            return loader

    runner = DeviceRunner.from_cfg(config)
    print_log(f'The model runs on {next(runner.model.parameters()).device}.', logger='current')
    return runner
