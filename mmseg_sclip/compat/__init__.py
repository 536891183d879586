"""Whether the installed packages fit each other, and what makes MMSegmentation of either family importable."""

from __future__ import annotations

import contextlib
import importlib
import io
import warnings
from functools import cache
from typing import TYPE_CHECKING

from . import external_configs, mmcv_ops
from .imports import EARLY, UnfitEnvironment, check_imports
from .late import import_mmseg_without_timm
from .versions import check_versions, installed_versions, version_of

if TYPE_CHECKING:
    import open_clip
else:
    from .late import open_clip

__all__ = ['UnfitEnvironment', 'open_clip', 'prepare']


@cache
def prepare() -> None:
    """Make mmseg importable, or say in one message why it is not. To be called before mmseg is imported.

    Raises:
        UnfitEnvironment: Packages are missing, out of range, or do not fit each other.
    """
    problems = check_versions(installed_versions())
    fatal = [problem for problem in problems if problem.fatal] or check_imports(EARLY)
    if fatal:
        raise UnfitEnvironment(fatal)
    for problem in problems:
        warnings.warn(str(problem), stacklevel=3)
    onedl = version_of('onedl-mmsegmentation') is not None
    mmcv_ops.stand_in(needed=not onedl)
    if onedl:  # it prints on every start that an optional package is missing
        with contextlib.redirect_stdout(io.StringIO()):
            importlib.import_module('mmseg.datasets')
    import_mmseg_without_timm()
    external_configs.mend()
