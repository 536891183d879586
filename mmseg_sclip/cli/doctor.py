"""`mmseg-sclip doctor`: shows the environment, names what does not fit and the command that repairs it."""

import importlib
import importlib.metadata
import platform
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from .. import compat, paths
from ..version import __version__
from .errors import ArgumentParser

OPENCV = ('opencv-python', 'opencv-python-headless', 'opencv-contrib-python', 'opencv-contrib-python-headless')
REBUILD_MMCV = f'pip uninstall -y mmcv && {compat.INSTALL_LITE}'


def main(argv: Sequence[str]) -> int:
    """Print the table and the problems; the exit code is 1 where there are any."""
    ArgumentParser(
        prog='mmseg-sclip doctor', description='Show versions, and what to run where they do not fit.'
    ).parse_args(argv)
    installed = compat.installed_versions()
    problems = compat.check_versions(installed)
    missing = {problem.package for problem in problems if installed.get(problem.package) is None}
    # Only what is there can be broken; torch and torchvision are tried together.
    problems += compat.check_imports({name: fix for name, fix in compat.FRAGILE.items() if name not in missing})
    ops, ops_problems = compiled_ops()
    problems += ops_problems

    # No highlighting and no markup: messages hold brackets, and commands must be copied whole.
    console = Console(highlight=False, soft_wrap=True)
    console.print(table(versions(installed), installed, problems))
    console.print(table(system(ops)))
    for problem in problems:
        console.print(f'Problem: {problem}', markup=False)
    console.print('Everything fits.' if not problems else f'{len(problems)} to repair.', markup=False)
    return 1 if problems else 0


def versions(installed: dict[str, str | None]) -> dict[str, str | None]:
    """The version of everything that matters, None where it is missing."""
    rows: dict[str, str | None] = {'python': platform.python_version(), 'mmseg_sclip': __version__}
    rows |= installed
    if rows['mmcv'] and not rows['mmcv-lite']:
        del rows['mmcv-lite']
    elif rows['mmcv-lite'] and not rows['mmcv']:
        del rows['mmcv']
    rows['numpy'] = _version('numpy')
    opencv = next((name for name in OPENCV if _version(name)), OPENCV[0])
    rows[opencv] = _version(opencv)
    return rows


def system(ops: str) -> dict[str, str]:
    """What is not a version: devices, compiled ops, folders."""
    try:
        configs = str(paths.configs_root())
    except FileNotFoundError as error:
        configs = str(error)
    return {'CUDA': cuda(), 'compiled mmcv ops': ops, 'configs': configs, 'cache': str(paths.cache_root())}


def cuda() -> str:
    """The names of the CUDA devices, or why there are none."""
    try:
        import torch
    except Exception as error:  # check_imports names it as a problem
        return f'torch cannot be imported ({type(error).__name__})'
    if not torch.cuda.is_available():
        return 'not available' if torch.version.cuda or torch.version.hip else 'not available (torch is built for CPU)'
    return ', '.join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))


def compiled_ops() -> tuple[str, list[compat.Problem]]:
    """The state of mmcv's compiled ops in words, and the problem where they are there but do not load."""
    if not compat.has_compiled_ops():
        return 'no (not needed)', []
    try:
        importlib.import_module('torch')  # the ops link against its libraries
        importlib.import_module('mmcv._ext')
    except Exception as error:
        text = f'the compiled ops of mmcv do not fit torch ({type(error).__name__}: {error})'
        return 'broken', [compat.Problem('mmcv', text, REBUILD_MMCV)]
    return 'yes', []


def table(
    rows: dict[str, str | None], installed: dict[str, str | None] | None = None, problems: Sequence[compat.Problem] = ()
) -> Table:
    """Rows of name and value; with `installed`, also the range that is needed, and a mark on what has a problem."""
    result = Table(show_header=installed is not None)
    for heading in ('package', 'installed', 'needed') if installed is not None else ('', ''):
        result.add_column(heading, overflow='fold')
    needed = {requirement.package: requirement.allowed or 'any' for requirement in compat.REQUIREMENTS}
    broken = {problem.package for problem in problems}
    for name, value in rows.items():
        cells = [name, value or 'missing'] + ([needed.get(name, '')] if installed is not None else [])
        result.add_row(*map(Text, cells), style='red' if name in broken else None)
    return result


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
