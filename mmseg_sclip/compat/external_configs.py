"""Paths such as `mmseg::_base_/models/segformer_mit-b0.py`, which name configs that MMSegmentation ships.

MMEngine looks for them where the distribution `mmsegmentation` is installed. Its maintained successor is named
otherwise, and MMEngine until 0.10 asks `pkg_resources`, which setuptools no longer has. Both are mended here, in place,
so that `Config.fromfile` finds them from Python too.
"""

import difflib
import importlib
import importlib.metadata
import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

from ..errors import MissingFileError


def mend() -> None:
    """Let MMEngine find what MMSegmentation ships; what works is left as it is."""
    packages = importlib.import_module('mmengine.config.utils').MODULE2PACKAGE  # module: distribution
    if _distribution(packages['mmseg']) is None:
        packages['mmseg'] = 'mmseg'  # a module will do as well
    utils = importlib.import_module('mmengine.utils.package_utils')
    for ours in (is_installed, get_installed_path):
        theirs = getattr(utils, ours.__name__)
        if 'pkg_resources' in theirs.__code__.co_names:
            for module in _modules_of('mmengine'):
                if getattr(module, ours.__name__, None) is theirs:
                    setattr(module, ours.__name__, ours)


def find_external(name: str) -> Path:
    """The file of a config that another package ships.

    Args:
        name: Such as `mmseg::segformer/segformer_mit-b0_8xb2-160k_ade20k-512x512.py`.

    Raises:
        MissingFileError: There is no such config; the message names the nearest one of MMSegmentation.
    """
    try:
        return Path(importlib.import_module('mmengine.config').Config._get_cfg_path(name, '')[0])
    except (ValueError, AssertionError, ImportError, OSError) as error:
        if not name.startswith('mmseg::'):
            raise MissingFileError(f'There is no config {name}: {error}') from error
        root = Path(get_installed_path('mmseg'), '.mim', 'configs')
        known = [f'mmseg::{path.relative_to(root).as_posix()}' for path in sorted(root.rglob('*.py'))]
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.7)
        hint = f" Did you mean '{near[0]}'?" if near else ''
        raise MissingFileError(f'There is no config {name}.{hint} Those of MMSegmentation lie in {root}.') from error


def is_installed(package: str) -> bool:
    """As MMEngine's, but without `pkg_resources`.

    Args:
        package: A distribution or a module.
    """
    return _distribution(package) is not None or _folder(package) is not None


def get_installed_path(package: str) -> str:
    """As MMEngine's, but without `pkg_resources`: the folder of a package's modules.

    Args:
        package: A distribution or a module.

    Raises:
        importlib.metadata.PackageNotFoundError: It is not installed, or has no such folder.
    """
    found = _distribution(package)
    modules = (found.read_text('top_level.txt') or '').split() if found else []
    for module in (package, *modules[:1]):
        if folder := _folder(module):
            return folder
    raise importlib.metadata.PackageNotFoundError(package)


def _distribution(name: str) -> importlib.metadata.Distribution | None:
    try:
        return importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _folder(module: str) -> str | None:
    spec = importlib.util.find_spec(module)
    return os.path.dirname(spec.origin) if spec and spec.origin else None


def _modules_of(package: str) -> list[ModuleType]:
    return [module for name, module in list(sys.modules.items()) if name.partition('.')[0] == package]
