"""The console command `mmseg-sclip`: finds a command by its name and runs it.

A new command is one line in `COMMANDS`, a module with `main(argv) -> int`, and one in `arguments` with `parse(argv)`.
"""

import argparse
import difflib
import importlib
import sys
from collections.abc import Sequence
from typing import NamedTuple

from .. import errors
from ..version import __version__


class Command(NamedTuple):
    """A module of this package, its line in the help, and whether it needs what the package registers."""

    module: str
    help: str
    registers: bool = True


COMMANDS = {
    'segment': Command('segment', 'segment your own pictures into your own words'),
    'test': Command('test', 'measure a config on its dataset, and write pictures'),
    'check': Command('check', 'look at every file of a test dataset, and say what is wrong'),
    'train': Command('train', 'train the learned projection, an ablation; all else is training-free'),
    'attention': Command('attention', 'show what points of an image attend to, with several attentions'),
    'compare': Command('compare', 'draw what several configs make of the same images, side by side'),
    'ablate': Command('ablate', "run the rows of the paper's tables, and compare them with the paper"),
    'compare-methods': Command(
        'compare_methods', 'test many methods on one dataset, together where they read its images alike'
    ),
    'get-flops': Command('get_flops', 'count the multiply-adds of a config'),
    'weights': Command('weights', 'list the weights that configs need, and what of them is on this machine'),
    'configs': Command('configs', 'list the shipped configs and where they lie', registers=False),
    'doctor': Command('doctor', 'show versions, and what to run where they do not fit', registers=False),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run `mmseg-sclip COMMAND ...`.

    Args:
        argv: The command and its arguments; by default those of the process.

    Returns:
        The exit code: 0, or 1 after an error, whose message is the last line on stderr.
    """
    return errors.run(_dispatch, argv)


def _dispatch(argv: list[str]) -> int:
    if not argv or argv[0].startswith('-'):
        parser = _parser()
        parser.parse_args(argv)  # --help and --version end here
        parser.print_help()
        return 0
    name, *rest = argv
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f'did you mean {near[0]!r}? ' if near else ''
        raise errors.UsageError(f'{name!r} is not a command; {hint}The commands are: {", ".join(COMMANDS)}.')
    module, _, registers = COMMANDS[name]
    if not registers:
        return importlib.import_module(f'mmseg_sclip.cli.{module}').main(rest)
    importlib.import_module(f'mmseg_sclip.cli.arguments.{module}').parse(rest)  # --help and wrong words end here
    from ..compat.imports import UnfitEnvironment  # here, since it takes as long as all else of --help

    try:
        importlib.import_module('mmseg_sclip.registering')
        return importlib.import_module(f'mmseg_sclip.cli.{module}').main(rest)
    except UnfitEnvironment as error:
        print(f'Error: {error}', file=sys.stderr)  # its lines are commands to copy
        return 1


def _parser() -> argparse.ArgumentParser:
    width = max(map(len, COMMANDS)) + 2
    lines = '\n'.join(f'  {name:<{width}}{command.help}' for name, command in COMMANDS.items())
    parser = errors.ArgumentParser(
        prog='mmseg-sclip',
        usage='mmseg-sclip COMMAND [arguments]',
        description=f'Training-free open-vocabulary segmentation with CLIP.\n\ncommands:\n{lines}',
        epilog='`mmseg-sclip COMMAND --help` explains the arguments of a command.',
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('--version', action='version', version=f'mmseg_sclip {__version__}')
    return parser
