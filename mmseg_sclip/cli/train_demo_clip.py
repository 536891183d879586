"""`tools/train_demo_clip.py`: make the demo's tiny CLIP from nothing."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import torch

from ..demo import WEIGHTS
from .errors import ArgumentParser, UsageError


def main(argv: Sequence[str] | None = None) -> int:
    """Train by number of steps; see `--help`."""
    parser = ArgumentParser(
        prog='mmseg-sclip train-demo-clip',
        description='Train the tiny CLIP of the demo on painted scenes and captions, never on masks. An interrupted '
        'training goes on where it stopped when the same command is given again.',
    )
    parser.add_argument('--steps', type=int, default=3600, help='optimizer steps (default: those of the shipped file)')
    parser.add_argument('--batch-size', type=int, default=256, help='pairs in a step')
    parser.add_argument('--seed', type=int, default=0, help='of the weights and of the scenes')
    parser.add_argument(
        '--threads', type=int, default=1, help="torch's threads; the result is reproducible for one number"
    )
    parser.add_argument(
        '--out',
        type=Path,
        default=Path('tiny_clip.safetensors'),
        metavar='FILE',
        help=f'weights file to write; the shipped one is {WEIGHTS}',
    )
    args = parser.parse_args(argv)
    for name in ('steps', 'batch_size', 'threads'):
        if getattr(args, name) < 1:
            raise UsageError(f'--{name.replace("_", "-")} is {getattr(args, name)}; it must be at least 1.')
    from ..demo.training import train  # brings the tokenizer and the optimizer, which --help does not need

    torch.set_num_threads(args.threads)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    train(
        args.steps,
        args.batch_size,
        args.seed,
        args.out,
        lambda line: print(f'{time.monotonic() - start:7.0f} s  {line}', flush=True),
    )
    print(f'The weights are in {args.out.resolve()}')
    return 0
