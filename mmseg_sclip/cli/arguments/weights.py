"""The arguments of `weights`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from ...errors import ArgumentParser
from ..flags import add_model_flags


def build_parser() -> argparse.ArgumentParser:
    """Which configs, and which other weights they shall have."""
    parser = ArgumentParser(
        prog='mmseg-sclip weights',
        description='List the files of weights that configs need, where they are published, and which of them are on '
        'this machine. Nothing is downloaded and no network is built. The exit code is 1 where a file is missing.',
        epilog='example: mmseg-sclip weights sclip_voc21',
    )
    parser.add_argument(
        'configs',
        nargs='*',
        metavar='CONFIG',
        help='config file, name of a shipped config, or name of a method for all its configs (default: all methods)',
    )
    parser.add_argument('--json', action='store_true', help='print JSON')
    add_model_flags(parser, 'model.clip.cache_dir=/path/cache', device=False)
    return parser


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The arguments, as far as they can be checked without a config.

    Raises:
        UsageError: They are wrong.
    """
    return build_parser().parse_intermixed_args(argv)
