"""What the flags of commands that write figures ask for."""

from argparse import Namespace

from matplotlib.figure import Figure

from ..outputs import OutputFolder, check_outputs
from ..visual.figure import save


def open_folder(args: Namespace, inputs: list[str]) -> OutputFolder:
    """The folder of the figures, made before an hour of work finds out that it cannot be made.

    Raises:
        OutputError: The folder cannot be made, or holds one of the inputs.
    """
    folder = OutputFolder(args.out_dir, '--out-dir')
    check_outputs([folder], inputs)
    return folder


def save_figure(figure: Figure, args: Namespace, folder: OutputFolder, stem: str) -> None:
    """Write `STEM.png`, and `STEM.pdf` where `--pdf` asks for it, and print where they are."""
    for suffix in ('.png', *['.pdf'] * args.pdf):
        save(figure, folder, f'{stem}{suffix}')
        print(f'The figure is {(folder.folder / f"{stem}{suffix}").resolve()}', flush=True)
