"""`tools/benchmark.py` and `mmseg-sclip benchmark`: speed and memory against a plain implementation."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from mmengine.registry import init_default_scope
from rich.console import Console

from ..benchmark.inputs import dataset_items, file_items, find_images, usual_size, write_random_weights
from ..benchmark.report import NOTE, print_report
from ..benchmark.run import Setting, measure
from ..models.clip.config import PRECISIONS
from ..utils.atomic_files import write_atomically
from .configuring import apply_clip_flags, find_device, load_config
from .errors import ArgumentParser, UsageError
from .flags import add_model_flags


def build_parser() -> argparse.ArgumentParser:
    """The configs, the images, and what is compared."""
    parser = ArgumentParser(
        prog='mmseg-sclip benchmark',
        description='Time configs against a plain implementation of the same method, side by side in one run: '
        'start-up, seconds an image, stages, memory, and whether the labels are the same.',
    )
    parser.add_argument(
        'configs', nargs='*', default=['sclip_voc20'], metavar='CONFIG', help='files or names (default: sclip_voc20)'
    )
    parser.add_argument(
        '--images',
        metavar='DIR',
        help="photographs (default: the config's own dataset where its files are there, else coloured patterns)",
    )
    parser.add_argument(
        '--size',
        metavar='HxW',
        type=_size,
        help='resize the images to this height and width in pixels, which leaves ground truth out (default: as they '
        'are; patterns get the usual size of the dataset)',
    )
    parser.add_argument(
        '--precision', nargs='+', choices=tuple(PRECISIONS), default=['fp32'], help='of ours (default: fp32)'
    )
    parser.add_argument('--max-images', type=_positive, default=3, metavar='N', help='default: 3')
    parser.add_argument('--repeats', type=_positive, default=3, metavar='N', help='runs of each image (default: 3)')
    parser.add_argument('--random-weights', action='store_true', help='run without a download; speed is the same')
    parser.add_argument('--json', metavar='FILE', help='write all figures to this file, "-" for the standard output')
    add_model_flags(parser, 'model.test_cfg.window_batch=4')
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; see `--help`.

    Raises:
        UsageError: The flags are wrong.
        ValueError: A config is wrong, or an image cannot be read.
        FileNotFoundError: A config, weights or images are missing.
    """
    args = build_parser().parse_intermixed_args(argv)
    if args.random_weights and args.pretrained:
        raise UsageError('--random-weights and --pretrained exclude each other. Leave one out.')
    if args.json == '-':
        with redirect_stdout(sys.stderr):  # tables and log lines are no JSON
            results = _run(args)
        print(json.dumps(results, indent=2))
        return 0
    if args.json:
        _check_file(Path(args.json).absolute())
    _run(args)
    return 0


def _check_file(path: Path) -> None:
    """Refuse a place that cannot be written, before minutes of work find out."""
    if path.is_dir():
        raise UsageError(f'--json {path} is a folder. Name a file.')
    folder = next(parent for parent in path.parents if parent.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise UsageError(f'--json {path} cannot be written, because of {folder}. Name another file.')


def _run(args: argparse.Namespace) -> list[dict]:
    console = Console(highlight=False, soft_wrap=not sys.stdout.isatty())
    init_default_scope('mmseg')
    device = find_device(args.device) or torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    configs = [load_config(name, args.cfg_options) for name in args.configs]
    sources = find_images(Path(args.images).expanduser(), args.max_images) if args.images else []
    results = []
    with TemporaryDirectory() as folder, torch.no_grad():
        for config in configs:
            apply_clip_flags(config, args.model_name, args.pretrained)
            if args.random_weights:
                config.model.clip = write_random_weights(config.model.clip, Path(folder))
            own = [] if sources else dataset_items(config, args.max_images)
            items = own if not args.size else []
            if not items:
                files = sources or [Path(item.name) for item in own]
                size = args.size or (None if files else usual_size(config))
                items = file_items(config, files, size, args.max_images, Path(folder))
            with console.status('') as status:
                name = Path(config.filename).stem
                report = lambda line, name=name, status=status: status.update(f'{name}: {line}')  # noqa: E731
                found = measure(Setting(config, items, args.precision, args.repeats, device, report))
            results += found
            print_report(found, console)
            if args.json not in (None, '-'):  # after each config, so that an interruption loses one
                with write_atomically(Path(args.json).absolute()) as unfinished:
                    unfinished.write_text(json.dumps(results, indent=2) + '\n')
    console.print(NOTE)
    if args.json not in (None, '-'):
        console.print(f'The figures are in {Path(args.json).resolve()}')
    return results


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r'(\d+)[xX](\d+)', text)
    if not match or not all(int(side) > 0 for side in match.groups()):
        raise argparse.ArgumentTypeError(f'{text!r} is no size; write HEIGHTxWIDTH in pixels, such as 375x500')
    return int(match[1]), int(match[2])


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f'{text!r} is no positive whole number')
    return int(text)
