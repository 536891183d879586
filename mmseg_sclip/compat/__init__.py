"""Whether the installed packages fit each other, and what makes MMSegmentation of either family importable."""

from __future__ import annotations

import contextlib
import importlib
import io
import warnings
from functools import cache

from . import external_configs, mmcv_ops
from .imports import check_imports
from .versions import Problem, check_versions, installed_versions, version_of


class UnfitEnvironment(ImportError):
    """The packages do not fit each other, so mmseg_sclip cannot be imported."""

    def __init__(self, problems: list[Problem]) -> None:
        count = 'one package does' if len(problems) == 1 else f'{len(problems)} packages do'
        lines = '\n'.join(f'- {problem}' for problem in problems)
        super().__init__(
            f'mmseg_sclip cannot start, because {count} not fit:\n{lines}\n'
            '(`mmseg-sclip doctor` shows the whole environment)'
        )


@cache
def prepare() -> None:
    """Make mmseg importable, or say in one message why it is not. To be called before mmseg is imported.

    Raises:
        UnfitEnvironment: Packages are missing, out of range, or do not fit each other.
    """
    problems = check_versions(installed_versions())
    fatal = [problem for problem in problems if problem.fatal] or check_imports()
    if fatal:
        raise UnfitEnvironment(fatal)
    for problem in problems:
        warnings.warn(str(problem), stacklevel=3)
    onedl = version_of('onedl-mmsegmentation') is not None
    mmcv_ops.stand_in(needed=not onedl)
    if onedl:  # it prints on every start that an optional package is missing
        with contextlib.redirect_stdout(io.StringIO()):
            importlib.import_module('mmseg.datasets')
    external_configs.mend()
