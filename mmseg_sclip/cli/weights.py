"""`tools/weights.py` and `mmseg-sclip weights`: which weights configs need, and what of it is on this machine."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path

from mmengine.registry import init_default_scope

from .. import paths
from ..config import each_file_read_once, load_config
from ..errors import MissingFileError
from ..model_flags import apply_model_flags_to_all
from ..models.pretrained import weights_root
from ..weights_report import Need, entry_of, files_of, group, report
from .arguments.weights import parse


def main(argv: Sequence[str]) -> int:
    """Print the list; see `--help`.

    Raises:
        UsageError: A flag is wrong.
        ConfigError: A config is wrong.
        MissingFileError: Weights are missing, after the list is printed; or there is no such config.
    """
    args = parse(argv)
    with redirect_stdout(sys.stderr):  # what a config prints is not part of the list
        init_default_scope('mmseg')
        with each_file_read_once():
            configs = [
                (name, load_config(path, args.cfg_options, own_modules=True))
                for name, path in _paths(args.configs).items()
            ]
        apply_model_flags_to_all(configs, args.model_name, args.pretrained, args.weights)
        needs = group(configs)
    files = files_of(needs)
    missing = [file for file in files if file.locate() is None]
    if args.json:
        print(json.dumps(_as_dict(needs), indent=1))
    else:
        print(report(needs, files))
    if missing:
        raise MissingFileError(
            f'{len(missing)} of {len(files)} {"file" if len(files) == 1 else "files"} of weights '
            f'{"is" if len(missing) == 1 else "are"} missing: {", ".join(file.what for file in missing)}.'
        )
    return 0


def _paths(given: Sequence[str]) -> dict[str, str | Path]:
    """The configs that names of configs and of methods stand for, by their names."""
    shipped: dict[str, str | Path] = {paths.config_name(path): path for path in paths.list_configs()}
    found: dict[str, str | Path] = {}
    for name in given:
        of_method = {own: path for own, path in shipped.items() if paths.method_and_dataset(own)[0] == name}
        found |= {name: shipped[name]} if name in shipped else of_method or {name: name}
    return found if given else shipped


def _as_dict(needs: Sequence[Need]) -> dict[str, object]:
    """What `--json` prints."""
    listed = [dict(configs=need.configs, weights=[entry_of(file) for file in need.weights.values()]) for need in needs]
    return dict(folder=str(weights_root()), needs=listed)
