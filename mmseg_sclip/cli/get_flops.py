"""`tools/get_flops.py` and `mmseg-sclip get-flops`: count the multiply-adds of a config."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout

from ..config import apply_clip_flags, check_is_clip, load_config
from ..engine.flops import count, default_shape
from ..errors import ArgumentParser, UsageError
from .flags import add_model_flags


def build_parser() -> argparse.ArgumentParser:
    """MMSeg's flags, and those that choose the model."""
    parser = ArgumentParser(
        prog='mmseg-sclip get-flops',
        description='Count the multiply-adds of a config for a window and for an image, attention included. No weights '
        'are read or fetched, and nothing is computed; of a model hf-hub:ORG/REPO only the description is fetched.',
    )
    parser.add_argument('config', help='config file, or the name of a shipped config such as sclip_voc21')
    parser.add_argument(
        '--shape',
        type=int,
        nargs='+',
        metavar='N',
        help='height and width of the image file in pixels, or one side of a square (default: 375 500, typical of '
        'Pascal VOC; for the demo the size of a scene)',
    )
    add_model_flags(parser, 'model.test_cfg.crop_size=448', weights=False)
    parser.add_argument('--json', action='store_true', help='print JSON')
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Print the counts; see `--help`.

    Raises:
        UsageError: The shape is none.
        ConfigError: The config is wrong.
        MissingFileError: There is no such config.
    """
    args = build_parser().parse_intermixed_args(argv)
    shape = args.shape
    if shape is not None and (len(shape) > 2 or min(shape) < 1):
        raise UsageError(f'--shape is {" ".join(map(str, shape))}; it takes one or two positive numbers of pixels.')
    with redirect_stdout(sys.stderr):  # the model's own log lines are no JSON
        config = load_config(args.config, args.cfg_options, own_modules=True)
        check_is_clip(config)
        apply_clip_flags(config, args.model_name, None)
        cost = count(config, default_shape(config) if shape is None else (shape[0], shape[-1]))
    if args.json:
        print(json.dumps(dict(config=args.config, **cost.as_dict()), indent=2))
        return 0
    rows = [
        ('model', cost.model_name),
        ('image', _size(cost.image)),
        ('network input', _size(cost.network_input)),
        ('windows', f'{cost.windows} of {_size(cost.window)}'),
        ("CLIP's own image tower", _costs(cost.clip_per_window, cost.clip_per_image)),
        ('this config', _costs(cost.per_window, cost.per_image)),
    ]
    for name, value in rows:
        print(f'{name:<24}{value}')
    print(
        '1 GMAC is 1e9 multiply-adds (2 GFLOP). "This config" has the attention of its decoder and the projection of '
        'all tokens; the products with the text, resizing and PAMR are not counted.'
    )
    return 0


def _size(size: tuple[int, int]) -> str:
    return f'{size[0]} x {size[1]} pixels (height x width)'


def _costs(window: float, image: float) -> str:
    return f'{window:.3f} GMAC a window, {image:.3f} GMAC an image'
