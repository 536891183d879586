"""Time configs against a plain implementation, or methods against each other, side by side."""

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

import mmseg_sclip  # isort: skip  # noqa: F401  before anything that imports mmseg, which mmcv-lite needs
import torch
from bench.inputs import find_items, without_weights, write_random_weights
from bench.measure import Setting, measure
from bench.methods import measure_methods, print_methods
from bench.report import NOTE, print_report
from mmengine.registry import init_default_scope
from rich.console import Console

from mmseg_sclip.ablation.protocols import common_protocol
from mmseg_sclip.cli.flags import add_model_flags
from mmseg_sclip.config import find_device, load_config, override
from mmseg_sclip.errors import ArgumentParser, UsageError, run
from mmseg_sclip.files import MARK, refuse_taken, write_atomically
from mmseg_sclip.model_flags import apply_model_flags_to_all
from mmseg_sclip.models.clip.config import PRECISIONS


def build_parser() -> argparse.ArgumentParser:
    """The configs, the images, and what is compared."""
    parser = ArgumentParser(
        prog='tools/benchmark.py',
        description='Time configs against a plain implementation of the same method, side by side in one run: '
        'start-up, seconds per image, stages, memory, and whether the labels are the same.',
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
    parser.add_argument(
        '--methods',
        nargs='+',
        metavar='METHOD',
        help='instead of the plain way, time these methods under the protocol of the one CONFIG (sclip_DATASET), each '
        'alone and all in one pass over the images',
    )
    parser.add_argument('--random-weights', action='store_true', help='run without a download; speed is the same')
    parser.add_argument('--json', metavar='FILE', help='write all figures to this file, "-" for the standard output')
    add_model_flags(parser, 'model.test_cfg.window_batch=4')
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; see `--help`.

    Raises:
        UserError: The flags or a config are wrong, or something is missing.
    """
    args = build_parser().parse_intermixed_args(argv)
    if args.random_weights and args.pretrained:
        raise UsageError('--random-weights and --pretrained exclude each other. Leave one out.')
    if args.methods and (len(args.configs) > 1 or not args.configs[0].startswith('sclip_')):
        raise UsageError(f'--methods needs one sclip_DATASET, such as sclip_voc20, and not {" ".join(args.configs)}.')
    if args.json == '-':
        with redirect_stdout(sys.stderr):  # tables and log lines are not JSON
            results = _run(args)
        print(json.dumps(results, indent=1))
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
    refuse_taken(path, '--json')


def _run(args: argparse.Namespace) -> list[dict]:
    console = Console(highlight=False, markup=False, soft_wrap=not sys.stdout.isatty())
    signs = Console(stderr=True, highlight=False, markup=False)
    init_default_scope('mmseg')
    device = find_device(args.device) or torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    images = Path(args.images).expanduser() if args.images else None
    configs = [load_config(name, args.cfg_options, own_modules=True) for name in args.configs]
    dataset = args.configs[0].removeprefix('sclip_')
    methods = {name: common_protocol(name, dataset) for name in args.methods or ()}
    for method in methods.values():
        override(method, args.cfg_options)
    results = []
    with TemporaryDirectory() as folder, torch.no_grad():
        named = [*zip(args.configs, configs, strict=True), *methods.items()]
        apply_model_flags_to_all(named, args.model_name, args.pretrained, args.weights)
        for _, config in named if args.random_weights else ():
            config.model.clip = write_random_weights(config.model.clip, Path(folder))
            config.model.companions = without_weights(config.model.get('companions') or {})
        for config in configs:
            items = find_items(config, images, args.size, args.max_images, Path(folder))

            def report(line: str, name: str = Path(config.filename).stem) -> None:
                # No spinner: its thread would be measured too.
                signs.print(f'{name}: {line:<70}', end='\r' if signs.is_terminal else '\n')

            setting = Setting(config, items, args.precision, args.repeats, device, report)
            found = measure_methods(setting, methods) if methods else measure(setting)
            results += [{**result, 'software': MARK} for result in found]
            (print_methods if methods else print_report)(found, console)
            if args.json not in (None, '-'):  # after each config, so that an interruption loses one
                with write_atomically(Path(args.json).absolute(), '--json') as unfinished:
                    lines = ',\n'.join(map(json.dumps, results))
                    unfinished.write_text(f'[\n{lines}\n]\n')  # a result a line
    if not methods:
        console.print(NOTE)
    if args.json not in (None, '-'):
        console.print(f'The figures are in {Path(args.json).resolve()}')
    return results


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r'(\d+)[xX](\d+)', text)
    if not match or not all(int(side) > 0 for side in match.groups()):
        raise argparse.ArgumentTypeError(f'{text!r} is not a size; write HEIGHTxWIDTH in pixels, such as 375x500')
    return int(match[1]), int(match[2])


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f'{text!r} is not a positive whole number')
    return int(text)


if __name__ == '__main__':
    sys.exit(run(main))
