"""`tools/attention.py` and `mmseg-sclip attention`: what points of an image attend to."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from ..config import apply_clip_flags, check_is_clip, find_device, load_config
from ..datasets.pipelines import bands_of, choose_bands
from ..datasets.scenes import scene
from ..engine.runner import build_model
from ..errors import ArgumentParser, MissingFileError, UsageError
from ..images import pack_photograph, read_photograph
from ..notes import say
from ..outputs import OutputFolder
from ..visual.attention import attention_maps, check_points
from ..visual.attention_figure import attention_figure
from ..visual.attention_names import METHODS, parse_attention
from ..visual.png import save_png
from ..visual.strategies import OWN, bind_strategy
from ..visual.view import Point
from .figure_flags import add_figure_flags, open_folder, save_figure
from .flags import add_bands_flag, add_model_flags

_CONFIG, _DEMO_CONFIG = 'sclip_voc21', 'sclip_demo'
_DEMO_SCENE, _DEMO_POINTS = 13, ['50,25', '110,60', '90,105']


def build_parser() -> argparse.ArgumentParser:
    """Which image and points, and what is shown of the attention."""
    parser = ArgumentParser(
        prog='mmseg-sclip attention',
        description='Draw what points of an image attend to: a picture for each strategy, layer, head and point.',
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
        help=f'config file or name: its CLIP, its resizing and its windows are used (default: {_CONFIG})',
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


def main(argv: Sequence[str] | None = None) -> int:
    """Draw the figure; see `--help`.

    Raises:
        UsageError: The flags do not fit each other or the machine.
        ConfigError: A point, layer, head or strategy does not exist, or the config is wrong.
        MissingFileError: The image, the weights or the config are missing.
        OutputError: The folder holds the image, or cannot be written to.
    """
    args = build_parser().parse_intermixed_args(argv)
    points, heads = _check(args)
    folder = open_folder(args, [args.image] if args.image else [])
    name = args.config or (_DEMO_CONFIG if args.demo else _CONFIG)
    config = load_config(name, args.cfg_options, own_modules=True)
    check_is_clip(config)
    apply_clip_flags(config, args.model_name, args.pretrained)
    path = Path(args.image) if args.image else _paint(folder)
    choose_bands(config, args.bands)
    notes = []
    pixels = read_photograph(path, bands_of(config), notes)
    say(notes, set())
    check_points(points, pixels.shape[:2])
    for text in args.attention:
        if text != OWN:
            parse_attention(text)  # before weights are loaded
    if args.checkpoint:
        config.load_from = args.checkpoint
    try:
        model = build_model(config, find_device(args.device))
    except FileNotFoundError as error:  # without weights
        raise MissingFileError(f'{error} To try this command without weights, add --demo.') from error
    strategies = [bind_strategy(model, text, config.model) for text in args.attention]
    packed = pack_photograph(config.test_dataloader.dataset.pipeline, pixels, path)
    image = model.data_preprocessor(dict(inputs=[packed['inputs']]))['inputs'][0]
    model.backbone.tower.check_size(image, str(path))
    maps = attention_maps(model, image, points, strategies, args.layers, heads, args.mode, pixels.shape[:2])
    title = f'{path.name}, {model.source.name}.'
    figure = attention_figure(pixels, maps, title, args.max_side)
    save_figure(figure, args, folder, folder.name(path, '_attention.png', '_attention.pdf') + '_attention')
    return 0


def _check(args: argparse.Namespace) -> tuple[list[Point], str | int]:
    """The points and the heads, after looking at what can be known before anything is loaded."""
    if args.image is None and not args.demo:
        raise UsageError('Name an image file, or try the command with --demo, which needs neither image nor weights.')
    if args.demo and args.config:
        raise UsageError(f'--demo is --config {_DEMO_CONFIG}. Give one of them.')
    if args.points is None and (args.image or not args.demo):
        raise UsageError('Say which points: --points X,Y [X,Y ...], in pixels of the image.')
    if args.checkpoint and not Path(args.checkpoint).is_file():
        raise MissingFileError(f'There is no checkpoint {args.checkpoint}. SCLIP needs none: leave it out.')
    heads = args.heads
    if heads not in ('mean', 'all'):
        try:
            heads = int(heads)
        except ValueError:
            raise UsageError(f'--heads is {heads!r}; it is mean, all or a number from 1.') from None
    return [_parse_point(text) for text in args.points or _DEMO_POINTS], heads


def _parse_point(text: str) -> Point:
    parts = text.split(',')
    try:
        x, y = map(int, parts)
    except ValueError:
        raise UsageError(
            f'--points: {text!r} is no point. A point is X,Y without a space, two whole numbers, such as 120,80.'
        ) from None
    return x, y


def _paint(folder: OutputFolder) -> Path:
    """A scene of the demo's evaluation set, as a file that the user can look at."""
    name = folder.name(f'scene_{_DEMO_SCENE}.png', '.png') + '.png'
    save_png(folder, name, Image.fromarray(scene('evaluation', 0, _DEMO_SCENE, 128, 5).image))
    print(f'The painted scene is {(folder.folder / name).resolve()}')
    return folder.folder / name
