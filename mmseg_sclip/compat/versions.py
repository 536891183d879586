"""Which versions of which packages work, what is installed, and the command that repairs what does not fit."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version


class Requirement(NamedTuple):
    """A package, the module it is imported as, the versions that work, and who asks for them."""

    package: str
    module: str
    allowed: str
    asked_by: str = 'mmseg_sclip'


MMCV_ALLOWED = '>=2.0.0rc4,<2.2.0'
COMMON = (
    Requirement('torch', 'torch', '>=2.1'),
    Requirement('torchvision', 'torchvision', ''),
    Requirement('open_clip_torch', 'open_clip', '>=3,<4'),
)
# Two families provide the modules mmengine, mmcv and mmseg: OpenMMLab's packages and their maintained successors.
OPENMMLAB = (
    Requirement('mmengine', 'mmengine', '>=0.10,<1.0', 'mmsegmentation'),
    Requirement('mmsegmentation', 'mmseg', '>=1.2,<2'),
    Requirement('mmcv', 'mmcv', MMCV_ALLOWED, 'mmsegmentation'),
    Requirement('mmcv-lite', 'mmcv', MMCV_ALLOWED, 'mmsegmentation'),
)
ONEDL = (
    Requirement('onedl-mmengine', 'mmengine', '>=0.10.12,<1.0', 'onedl-mmsegmentation'),
    Requirement('onedl-mmcv', 'mmcv', '>=2.3.6,<3', 'onedl-mmsegmentation'),
    Requirement('onedl-mmsegmentation', 'mmseg', '>=1.4.2,<2'),
)
UNKNOWN = 'unknown'  # the module is there, but no distribution of it: its version cannot be judged

INSTALL_LITE = f'pip install "mmcv-lite{MMCV_ALLOWED}"'
INSTALL_ONEDL = ' '.join(['pip install', *(f'"{package}{allowed}"' for package, _, allowed, _ in ONEDL)])


class Problem(NamedTuple):
    """What is wrong with the environment, the command that repairs it, and whether nothing works before that."""

    package: str
    text: str
    command: str
    fatal: bool = True

    def __str__(self) -> str:
        return f'{self.text}. To repair it, run:\n    {self.command}'


def installed_versions() -> dict[str, str | None]:
    """The version of every package of `COMMON`, `OPENMMLAB` and `ONEDL`: None where it is missing.

    It is UNKNOWN for the first package of a module that is there without metadata.
    """
    required = (*COMMON, *OPENMMLAB, *ONEDL)
    versions = {requirement.package: version_of(requirement.package) for requirement in required}
    owned = {requirement.module for requirement in required if versions[requirement.package]}
    for package, module, *_ in required:
        if module not in owned and importlib.util.find_spec(module) is not None:
            versions[package] = UNKNOWN
            owned.add(module)
    return versions


def check_versions(installed: Mapping[str, str | None]) -> list[Problem]:
    """Compare versions with the ranges that work.

    Args:
        installed: Package name to version, None or absent where it is not installed.
    """
    return [*_check_ranges(COMMON, installed), *_check_family(installed)]


def version_of(package: str) -> str | None:
    """The version of a distribution, None where it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _in_range(version: str, allowed: str) -> bool:
    try:
        return SpecifierSet(allowed).contains(Version(version), prereleases=True)
    except InvalidVersion:
        return True  # UNKNOWN, or a private build: mmseg's own checks have the last word


def _check_ranges(requirements: Iterable[Requirement], installed: Mapping[str, str | None]) -> list[Problem]:
    """The packages outside their ranges, and the modules that no package provides."""
    problems = []
    provided = {module for package, module, *_ in (*COMMON, *OPENMMLAB, *ONEDL) if installed.get(package)}
    for package, module, allowed, asked_by in requirements:
        found = installed.get(package)
        text, command = '', f'pip install "{package}{allowed}"'
        if found is None and module not in provided:
            text = f'{package} is not installed; {asked_by} needs {package}{allowed}'
            if package == 'mmcv':
                text = f'neither mmcv nor mmcv-lite is installed; {asked_by} needs one of them, {allowed}'
                command = INSTALL_LITE
            provided.add(module)  # one package of a module is enough
        elif found is not None and not _in_range(found, allowed):
            text = f'{package} {found} is installed, but {asked_by} needs {package}{allowed}'
            if package == 'mmcv':  # a fitting mmcv may have no wheel for this torch, so offer what always installs
                command = f'pip uninstall -y mmcv && {INSTALL_LITE}'
        if text:
            problems.append(Problem(package, text, command))
    return problems


def _check_family(installed: Mapping[str, str | None]) -> list[Problem]:
    """Whether mmengine, mmcv and mmseg are there, all of one family and in its ranges."""
    old = [name for name, *_ in OPENMMLAB if installed.get(name) not in (None, UNKNOWN)]
    new = [name for name, *_ in ONEDL if installed.get(name)]
    if old and new:
        names = ', '.join(f'{name} {installed[name]}' for name in old + new)
        text = f'packages of two families, which provide the same modules, are installed over each other: {names}'
        return [Problem(new[0], text, f'pip uninstall -y {" ".join(old + new)} && {INSTALL_ONEDL}')]
    if not any(installed.get(name) for name, *_ in OPENMMLAB) and not new:
        text = 'MMSegmentation is not installed; install it with the extra `mmseg_sclip[onedl]` or `mmseg_sclip[lite]`'
        return [Problem('mmsegmentation', text, INSTALL_ONEDL)]
    problems = _check_ranges(ONEDL if new else OPENMMLAB, installed)
    mmcv, lite = installed.get('mmcv'), installed.get('mmcv-lite')
    if mmcv is not None and lite is not None:
        text = (
            f'mmcv {mmcv} and mmcv-lite {lite} are installed over each other, and one has overwritten files of '
            'the other. Uninstall both and install one: mmcv-lite as below, or mmcv to keep compiled ops'
        )
        command = f'pip uninstall -y mmcv mmcv-lite && {INSTALL_LITE}'
        problems.append(Problem('mmcv', text, command, fatal=False))
    return problems
