"""Flags of the tools that write figures."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from matplotlib.figure import Figure

from ..errors import UsageError
from ..outputs import OutputFolder, check_outputs
from ..visual.figure import save


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
        help="make pictures smaller whose longer side has more than N pixels (default: the image's own resolution, "
        'as far as the figure stays below 8000 pixels)',
    )


def open_folder(args: Namespace, inputs: list[str]) -> OutputFolder:
    """The folder of the figures, made before an hour of work finds out that it cannot be made.

    Raises:
        UsageError: A flag is wrong.
        OutputError: The folder cannot be made, or holds one of the inputs.
    """
    if args.max_side is not None and args.max_side < 1:
        raise UsageError(f'--max-side is {args.max_side}; it must be at least 1.')
    folder = OutputFolder(args.out_dir, '--out-dir')
    check_outputs([folder], inputs)
    return folder


def save_figure(figure: Figure, args: Namespace, folder: OutputFolder, stem: str) -> None:
    """Write `STEM.png`, and `STEM.pdf` where `--pdf` asks for it, and print where they are."""
    for suffix in ('.png', *['.pdf'] * args.pdf):
        save(figure, folder, f'{stem}{suffix}')
        print(f'The figure is {(folder.folder / f"{stem}{suffix}").resolve()}', flush=True)
