"""Flags that many commands share; nothing here imports torch or MMSegmentation."""

from __future__ import annotations

import os
from argparse import Action, ArgumentParser, Namespace
from pathlib import Path
from typing import Any

from ..errors import UsageError
from .cfg_options import CfgOptions

METHODS = ('CLIP', 'MaskCLIP', 'SCLIP')  # names of attentions, those of `visual.attention_names`
ON_ERROR = ('stop', 'skip')  # what `engine.evaluation` can do at a sample that cannot be read


class _Files(Action):
    """Collects NAME=FILE in a dict."""

    def __call__(self, parser: ArgumentParser, namespace: Namespace, values: Any, option: str | None = None) -> None:
        name, _, file = values.partition('=')
        if not name or not file:
            raise UsageError(f'{option} {values}: it takes NAME=FILE, such as {option} dino=/path/dino.pth.')
        known = getattr(namespace, self.dest) or {}
        if known.get(name, file) != file:
            raise UsageError(f'{option} names {name} twice: {known[name]} and {file}. Leave one out.')
        setattr(namespace, self.dest, {**known, name: file})


def add_model_flags(parser: ArgumentParser, example: str, weights: bool = True, device: bool = True) -> None:
    """Add `--model-name` and `--cfg-options`, and where weights are read `--pretrained`, `--weights` and `--device`.

    Args:
        parser: Of the tool.
        example: KEY=VALUE, as the help of `--cfg-options` shows it.
        weights: Whether the tool reads weights.
        device: Whether it runs a network with them.
    """
    parser.add_argument('--model-name', help="CLIP's architecture, in place of the config's clip.model_name")
    if weights:
        parser.add_argument('--pretrained', help="tag or file of CLIP's weights, in place of the config's")
        parser.add_argument(
            '--weights',
            action=_Files,
            metavar='NAME=FILE',
            help='file of the weights of a network beside CLIP, by its name in model.companions, or of CLIP itself '
            '(clip); may be repeated, and `mmseg-sclip weights` lists the names',
        )
    if weights and device:
        parser.add_argument('--device', help='cpu, cuda, cuda:1, ... (default: a GPU where there is one)')
    add_cfg_options(parser, example)


def add_data_flags(parser: ArgumentParser, max_images: str = 'evaluate only the first N images of the dataset') -> None:
    """Add `--data-root`, `--max-images` and `--bands`, as `config.apply_data_flags` takes them.

    Args:
        parser: Of the tool.
        max_images: The help of `--max-images`.
    """
    parser.add_argument(
        '--data-root',
        type=os.path.expanduser,
        metavar='DIR',
        help="folder of the dataset, in place of the config's data_root (for VOC the folder VOC2012 itself)",
    )
    parser.add_argument('--max-images', type=int, metavar='N', help=max_images)
    add_bands_flag(parser)


def add_bands_flag(parser: ArgumentParser) -> None:
    """Add `--bands`."""
    parser.add_argument(
        '--bands',
        nargs='+',
        type=int,
        metavar='N',
        help='which bands of an image file are red, green and blue, counted from 1, such as 4 3 2; '
        'or the one that is shown in grey (default: the colours of the file, or its first three bands)',
    )


def add_cfg_options(parser: ArgumentParser, example: str) -> None:
    """Add `--cfg-options`.

    Args:
        parser: Of the tool.
        example: KEY=VALUE, as the help shows it.
    """
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=CfgOptions,
        metavar='KEY=VALUE',
        help=f'override settings of the config, such as {example}; values cannot contain spaces',
    )


def add_launcher_flags(parser: ArgumentParser) -> None:
    """Add MMSeg's flags of distributed runs."""
    parser.add_argument(
        '--launcher',
        choices=('none', 'pytorch', 'slurm', 'mpi'),
        default='none',
        help='what has started several processes: pytorch (torchrun, see tools/dist_test.sh), slurm or mpi '
        '(default: none, one process)',
    )
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help="set by torch's launcher")


def add_figure_flags(parser: ArgumentParser, folder: str) -> None:
    """Add `--out-dir`, `--pdf` and `--max-side`.

    Args:
        parser: Of the tool.
        folder: Where figures go by default.
    """
    parser.add_argument(
        '--out-dir', type=Path, default=Path(folder), metavar='DIR', help=f'folder of the figure (default: {folder})'
    )
    parser.add_argument('--pdf', action='store_true', help='write a PDF beside the PNG')
    parser.add_argument(
        '--max-side',
        type=int,
        metavar='N',
        help="make pictures smaller whose longer side has more than N pixels (default: the image's own resolution, "
        'as far as the figure stays below 8000 pixels)',
    )


def check_figure_flags(args: Namespace) -> None:
    """Look at what `add_figure_flags` has added.

    Raises:
        UsageError: A flag is wrong.
    """
    if args.max_side is not None and args.max_side < 1:
        raise UsageError(f'--max-side is {args.max_side}; it must be at least 1.')
