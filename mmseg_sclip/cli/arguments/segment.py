"""The arguments of `segment`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from ...errors import ArgumentParser, UsageError
from ..flags import METHODS, add_bands_flag, add_model_flags


def build_parser() -> argparse.ArgumentParser:
    """The pictures, the words, and the flags that choose the model."""
    parser = ArgumentParser(
        prog='mmseg-sclip segment',
        description='Segment your own pictures into classes that you name in words. For each picture STEM.* it writes '
        'STEM.png (label map with a palette: the classes in the given order, after the background, 0, where there is '
        'one) and STEM_overlay.png (the picture with the classes over it, and a legend); and one summary.json with '
        'the size (width, height) of each picture and the coverage of each class in percent. Where two pictures '
        'have one stem, a number is added. Photographs are turned upright by their EXIF tag.',
        epilog='example: mmseg-sclip segment photo.jpg --classes cat "remote control" "sofa, couch"',
    )
    parser.add_argument('images', nargs='*', metavar='IMAGE', help='picture, folder of pictures, or glob; several')
    words = parser.add_argument_group('the words, one of')
    words.add_argument(
        '--classes',
        nargs='+',
        metavar='WORD',
        help='the classes; synonyms stand in one word, separated by a comma and a space: "sofa, couch"',
    )
    words.add_argument(
        '--classes-file', metavar='FILE', help='text file with one class per line, synonyms as above; or a shipped one'
    )
    words.add_argument(
        '--config',
        help='config file, or the name of a shipped config such as sclip_ade20k: its model, and its classes unless '
        'words are given',
    )
    words.add_argument(
        '--demo', action='store_true', help='try this command without weights: the tiny CLIP and a painted scene'
    )
    parser.add_argument(
        '--background',
        nargs='+',
        metavar='WORD',
        help="what belongs to none of the classes: auto for SCLIP's 26 words (sky, wall, tree, ...) without those that "
        'the classes name, none, or phrases (default: auto; none with --demo)',
    )
    parser.add_argument(
        '--out-dir', default='segmented', metavar='DIR', help='folder of the results (default: %(default)s)'
    )
    parser.add_argument(
        '--heatmaps',
        action='store_true',
        help='also write STEM_heat_N.png for each phrase, in label order, those of the background too: its '
        'probability (0 to 1) among all phrases',
    )
    parser.add_argument(
        '--attention',
        metavar='NAME',
        help=f'attention of the last block: {", ".join(METHODS)}, or a registered one, with parameters as in '
        "'LocalSelfAttention(window=5)' (default: the config's, which is SCLIP's)",
    )
    parser.add_argument('--pamr', type=int, metavar='STEPS', help='refine the edges with PAMR, e.g. 10 (default: off)')
    add_bands_flag(parser)
    add_model_flags(parser, 'model.test_cfg.area_thd=None, which keeps small things')
    return parser


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The arguments, as far as they can be checked without a config.

    Raises:
        UsageError: They are wrong, or do not fit each other.
    """
    args = build_parser().parse_intermixed_args(argv)
    if args.classes and args.classes_file:
        raise UsageError('--classes and --classes-file both name the classes. Give one of them.')
    if args.demo and args.config:
        raise UsageError('--demo has a config of its own. Leave --demo or --config out.')
    named = args.classes or args.classes_file
    if named is None and not (args.config or args.demo):
        raise UsageError(
            'There are no classes. Name them with --classes cat "remote control", in a file with --classes-file, or '
            'by a shipped config with --config sclip_ade20k; or try --demo.'
        )
    if args.background and named is None:
        raise UsageError('--background belongs to --classes or --classes-file; a config says itself what is what.')
    return args
