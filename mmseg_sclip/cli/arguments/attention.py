"""The arguments of `attention`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from ...errors import ArgumentParser, MissingFileError, UsageError
from ..flags import METHODS, add_bands_flag, add_figure_flags, add_model_flags, check_figure_flags

CONFIG, DEMO_CONFIG = 'sclip_voc21', 'sclip_demo'
OWN = 'config'
_DEMO_POINTS = ['40,40', '120,110', '184,10']


def build_parser() -> argparse.ArgumentParser:
    """Which image and points, and what is shown of the attention."""
    parser = ArgumentParser(
        prog='mmseg-sclip attention',
        description='Draw what points of an image attend to: a picture for each attention, layer, head and point.',
        epilog='example: mmseg-sclip attention photo.jpg --points 120,80 300,200 --attention CLIP SCLIP '
        '"LocalSelfAttention(window=5)" --layers 12',
    )
    parser.add_argument('image', nargs='?', help='image file; photographs are turned upright by their EXIF tag')
    parser.add_argument(
        '--points',
        nargs='+',
        metavar='X,Y',
        help='pixels of the upright image, from 0,0 at its upper left corner; x goes right, y goes down',
    )
    parser.add_argument(
        '--attention',
        nargs='+',
        default=['CLIP', OWN],
        metavar='NAME',
        help=f"{', '.join(METHODS)} or registered attentions, with parameters as in 'LocalSelfAttention(window=5)' or "
        f"\"dict(type='...')\"; the word {OWN} is the config's own (default: CLIP {OWN})",
    )
    parser.add_argument(
        '--layers',
        nargs='+',
        type=int,
        default=[-1],
        metavar='N',
        help='blocks, counted from 1, or negative from the end (default: -1, the last)',
    )
    parser.add_argument(
        '--heads', default='mean', help='mean, all (a picture for each) or a number from 1 (default: mean)'
    )
    parser.add_argument(
        '--config',
        help=f'config file or name: its CLIP, its resizing and its windows are used (default: {CONFIG})',
    )
    parser.add_argument('--checkpoint', help="what the config's own attention has learned, where it learns")
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument('--whole', dest='mode', action='store_const', const='whole', help='the whole image at once')
    mode.add_argument(
        '--window',
        dest='mode',
        action='store_const',
        const='slide',
        help='the window of the evaluation whose centre is nearest to the point (default: as the config evaluates)',
    )
    parser.add_argument(
        '--demo',
        action='store_true',
        help='try this command without weights: the tiny CLIP, and without an image a painted scene',
    )
    add_figure_flags(parser, 'work_dirs/attention')
    add_bands_flag(parser)
    add_model_flags(parser, 'model.test_cfg.crop_size=448')
    return parser


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The arguments, as far as they can be checked without a config.

    Raises:
        UsageError: They are wrong, or do not fit each other.
    """
    args = build_parser().parse_intermixed_args(argv)
    check_figure_flags(args)
    if args.image is None and not args.demo:
        raise UsageError('Name an image file, or try the command with --demo, which needs neither image nor weights.')
    if args.demo and args.config:
        raise UsageError(f'--demo is --config {DEMO_CONFIG}. Give one of them.')
    if args.points is None and (args.image or not args.demo):
        raise UsageError('Say which points: --points X,Y [X,Y ...], in pixels of the image.')
    if args.checkpoint and not Path(args.checkpoint).is_file():
        raise MissingFileError(f'There is no checkpoint {args.checkpoint}. SCLIP needs none: leave it out.')
    if args.heads not in ('mean', 'all'):
        try:
            args.heads = int(args.heads)
        except ValueError:
            raise UsageError(f'--heads is {args.heads!r}; it is mean, all or a number from 1.') from None
    args.points = [_parse_point(text) for text in args.points or _DEMO_POINTS]
    return args


def _parse_point(text: str) -> tuple[int, int]:
    parts = text.split(',')
    try:
        x, y = map(int, parts)
    except ValueError:
        raise UsageError(
            f'--points: {text!r} is not a point. A point is X,Y without a space, two whole numbers, such as 120,80.'
        ) from None
    return x, y
