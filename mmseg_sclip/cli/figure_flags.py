"""Flags of the tools that write figures."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from ..pictures import picture_error
from ..sheets import Sheet
from .errors import UsageError


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
        help="make pictures smaller whose longer side has more than N pixels (default: the image's own resolution)",
    )


def check_figure_flags(args: Namespace) -> None:
    """Make the folder, before an hour of work finds out that it cannot be made.

    Raises:
        UsageError: A flag is wrong.
        OSError: The folder cannot be made.
    """
    if args.max_side is not None and args.max_side < 1:
        raise UsageError(f'--max-side is {args.max_side}; it must be at least 1.')
    try:
        args.out_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise picture_error(args.out_dir, error) from error


def save_figure(sheet: Sheet, args: Namespace, name: str) -> list[Path]:
    """Write `NAME.png`, and `NAME.pdf` where `--pdf` asks for it; print and return where they are."""
    paths = [sheet.save(args.out_dir / f'{name}{suffix}') for suffix in ('.png', *['.pdf'] * args.pdf)]
    for path in paths:
        print(f'The figure is {path.resolve()}', flush=True)
    return paths
