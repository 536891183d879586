"""The environment as `mmseg-sclip doctor` shows it."""

from __future__ import annotations

import importlib
import platform
from typing import NamedTuple

from .. import paths
from ..version import __version__
from . import mmcv_ops
from .imports import FRAGILE, check_imports
from .versions import COMMON, INSTALL_LITE, ONEDL, OPENMMLAB, Problem, check_versions, installed_versions, version_of

OPENCV = ('opencv-python', 'opencv-python-headless', 'opencv-contrib-python', 'opencv-contrib-python-headless')


class Report(NamedTuple):
    """The environment: what is installed and needed, devices and folders, and what does not fit."""

    rows: list[tuple[str, str, str]]
    problems: list[Problem]

    def __str__(self) -> str:
        widths = [max(map(len, column)) for column in list(zip(*self.rows, strict=True))[:2]]
        lines = [f'{name:<{widths[0]}}  {value:<{widths[1]}}  {needed}'.rstrip() for name, value, needed in self.rows]
        lines += ['', *(f'Problem: {problem}' for problem in self.problems)]
        return '\n'.join([*lines, f'{len(self.problems)} to repair.' if self.problems else 'Everything fits.'])


def look() -> Report:
    """Look at the whole environment; works in a broken one."""
    installed = installed_versions()
    problems = check_versions(installed)
    missing = {problem.package for problem in problems if installed.get(problem.package) is None}
    # Only what is there can be broken; torch and torchvision are tried together.
    problems += check_imports({name: command for name, command in FRAGILE.items() if name not in missing})
    ops, ops_problems = _compiled_ops()
    rows = [('', 'installed', 'needed'), ('python', platform.python_version(), ''), ('mmseg_sclip', __version__, '')]
    owned = {module for package, module, *_ in (*OPENMMLAB, *ONEDL) if installed[package]}
    for package, module, allowed, _ in (*COMMON, *OPENMMLAB, *ONEDL):
        if installed[package] or module not in owned:
            rows.append((package, installed[package] or 'missing', allowed or 'any'))
    opencv = next((name for name in OPENCV if version_of(name)), OPENCV[0])
    rows += [(name, version_of(name) or 'missing', '') for name in ('numpy', opencv)]
    rows += [('CUDA', _cuda(), ''), ('compiled mmcv ops', ops, ''), ('cache', str(paths.cache_root()), '')]
    try:
        rows.append(('configs', str(paths.configs_root()), ''))
    except FileNotFoundError as error:
        problems.append(Problem('mmseg_sclip', str(error), 'pip install --force-reinstall --no-deps mmseg_sclip'))
    return Report(rows, problems + ops_problems)


def _cuda() -> str:
    try:
        import torch  # a broken one is named among the problems
    except Exception as error:
        return f'torch cannot be imported ({type(error).__name__})'
    if not torch.cuda.is_available():
        return 'not available' if torch.version.cuda or torch.version.hip else 'not available (torch is built for CPU)'
    return ', '.join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))


def _compiled_ops() -> tuple[str, list[Problem]]:
    """The state of mmcv's compiled ops in words, and the problem where they are there but do not load."""
    if not mmcv_ops.are_compiled():
        return 'no (not needed)', []
    try:
        importlib.import_module('torch')  # the ops link against its libraries
        importlib.import_module('mmcv._ext')
    except Exception as error:
        text = f'the compiled ops of mmcv do not fit torch ({type(error).__name__}: {error})'
        return 'broken', [Problem('mmcv', text, f'pip uninstall -y mmcv && {INSTALL_LITE}')]
    return 'yes', []
