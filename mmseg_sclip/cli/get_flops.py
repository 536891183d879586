"""`tools/get_flops.py` and `mmseg-sclip get-flops`: count the multiply-adds of a config."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout

from ..config import check_is_clip, load_config
from ..engine.flops import count, default_shape
from ..model_flags import apply_model_flags
from .arguments.get_flops import parse


def main(argv: Sequence[str]) -> int:
    """Print the counts; see `--help`.

    Raises:
        UsageError: `--shape` does not name a size.
        ConfigError: The config is wrong.
        MissingFileError: There is no such config.
    """
    args = parse(argv)
    with redirect_stdout(sys.stderr):  # the model's own log lines are not JSON
        config = load_config(args.config, args.cfg_options, own_modules=True)
        check_is_clip(config)
        apply_model_flags(config, args.model_name, None)
        cost = count(config, default_shape(config) if args.shape is None else (args.shape[0], args.shape[-1]))
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
        '1 GMAC is 1e9 multiply-adds (2 GFLOP). "This config" has the attention of its decoder, the projection of all '
        'tokens, and second networks that look at windows; the products with the text, resizing, and what is done once '
        'per image, such as PAMR, propagation, or a second network that looks at the whole image, are not counted.'
    )
    return 0


def _size(size: tuple[int, int]) -> str:
    return f'{size[0]} x {size[1]} pixels (height x width)'


def _costs(window: float, image: float) -> str:
    return f'{window:.3f} GMAC per window, {image:.3f} GMAC per image'
