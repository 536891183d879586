"""Checks once whether the installed packages fit each other, and says how to repair what does not."""

import contextlib
import importlib
import importlib.metadata
import importlib.util
import io
import platform
import warnings
from collections.abc import Iterable, Mapping
from functools import cache
from typing import NamedTuple

from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

from . import external_configs, mmcv_ops, paths
from .version import __version__


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
# Modules whose import fails when binaries do not fit each other or the system, and what helps.
FRAGILE = {
    'torch': 'pip install --force-reinstall torch torchvision',
    'torchvision': 'pip install --upgrade --force-reinstall torch torchvision',
    'cv2': 'pip uninstall -y opencv-python && pip install opencv-python-headless',
    'open_clip': 'pip install "open_clip_torch>=3,<4"',  # which brings ftfy and regex; MMSegmentation needs them, too
}
OPENCV = ('opencv-python', 'opencv-python-headless', 'opencv-contrib-python', 'opencv-contrib-python-headless')


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
    versions = {requirement.package: _version(requirement.package) for requirement in required}
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


def check_imports(modules: Mapping[str, str] = FRAGILE) -> list[Problem]:
    """Import the modules that break when binaries do not fit, e.g. a torchvision built for another torch.

    Args:
        modules: Module name to the command that repairs it.
    """
    for module, command in modules.items():
        try:
            importlib.import_module(module)
        except Exception as error:  # a broken binary may raise anything: ImportError, OSError, RuntimeError, ...
            text = f'{module} cannot be imported ({type(error).__name__}: {error})'
            if module == 'torchvision':
                found = installed_versions()
                text = f'torchvision {found["torchvision"]} does not fit torch {found["torch"]}: {text}'
            return [Problem(module, text, command)]  # the later ones may only fail because of this one
    return []


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
    onedl = _version('onedl-mmsegmentation') is not None
    mmcv_ops.stand_in(needed=not onedl)
    if onedl:  # it prints on every start that an optional package is missing
        with contextlib.redirect_stdout(io.StringIO()):
            importlib.import_module('mmseg.datasets')
    external_configs.mend()


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
    opencv = next((name for name in OPENCV if _version(name)), OPENCV[0])
    rows += [(name, _version(name) or 'missing', '') for name in ('numpy', opencv)]
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


def _version(package: str) -> str | None:
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
    """What is out of its range, and modules that no package provides."""
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
