"""Checks the installed versions once, and lets mmseg be imported without the compiled ops of mmcv."""

import importlib
import importlib.metadata
import importlib.util
import sys
import warnings
from collections.abc import Mapping
from functools import cache
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import NamedTuple

from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version


class Requirement(NamedTuple):
    """A package, the module it is imported as, the versions that work, and which package asks for them."""

    package: str
    module: str
    allowed: str
    asked_by: str = 'mmseg_sclip'


MMCV_ALLOWED = '>=2.0.0rc4,<2.2.0'
REQUIREMENTS = (
    Requirement('torch', 'torch', '>=2.1'),
    Requirement('torchvision', 'torchvision', ''),
    Requirement('mmengine', 'mmengine', '>=0.10,<1.0', 'mmsegmentation'),
    Requirement('mmsegmentation', 'mmseg', '>=1.2,<2'),
    Requirement('open_clip_torch', 'open_clip', '>=3,<4'),
    Requirement('mmcv', 'mmcv', MMCV_ALLOWED, 'mmsegmentation'),
    Requirement('mmcv-lite', 'mmcv', MMCV_ALLOWED, 'mmsegmentation'),
)
UNKNOWN = 'unknown'  # the module is there, but no distribution of this name: its version cannot be judged

INSTALL_LITE = f'pip install "mmcv-lite{MMCV_ALLOWED}"'
# Modules whose import fails when binaries do not fit each other or the system, and what helps.
FRAGILE = {
    'torch': 'pip install --force-reinstall torch torchvision',
    'torchvision': 'pip install --upgrade --force-reinstall torch torchvision',
    'cv2': 'pip uninstall -y opencv-python && pip install opencv-python-headless',
}


class Problem(NamedTuple):
    """What is wrong with the environment, the command that repairs it, and whether nothing works before that."""

    package: str
    text: str
    command: str
    fatal: bool = True

    def __str__(self) -> str:
        return f'{self.text}. To repair it, run:\n    {self.command}'


def installed_versions() -> dict[str, str | None]:
    """The version of every required package: None where it is missing, UNKNOWN where it has no metadata."""
    versions = {}
    for package, module, *_ in REQUIREMENTS:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None if package == 'mmcv-lite' or not _importable(module) else UNKNOWN
    if versions['mmcv-lite'] and versions['mmcv'] == UNKNOWN:
        versions['mmcv'] = None  # the module `mmcv` that was seen is mmcv-lite's
    return versions


def check_versions(installed: Mapping[str, str | None]) -> list[Problem]:
    """Compare versions with the ranges that work.

    Args:
        installed: Package name to version, None or absent where it is not installed.
    """
    problems = []
    for package, _, allowed, asked_by in REQUIREMENTS:
        found = installed.get(package)
        if found is None and package not in ('mmcv', 'mmcv-lite'):
            text = f'{package} is not installed; {asked_by} needs {package}{allowed}'
            problems.append(Problem(package, text, f'pip install "{package}{allowed}"'))
        elif found is not None and not _in_range(found, allowed):
            text = f'{package} {found} is installed, but {asked_by} needs {package}{allowed}'
            command = f'pip install "{package}{allowed}"'
            if package == 'mmcv':  # a fitting mmcv may have no wheel for this torch, so offer what always installs
                command = f'pip uninstall -y mmcv && {INSTALL_LITE}'
            problems.append(Problem(package, text, command))
    return problems + _check_mmcv(installed.get('mmcv'), installed.get('mmcv-lite'))


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


def has_compiled_ops() -> bool:
    """Whether the installed mmcv has compiled ops; does not import it."""
    mmcv = importlib.util.find_spec('mmcv')
    return mmcv is not None and PathFinder.find_spec('mmcv._ext', mmcv.submodule_search_locations) is not None


@cache
def prepare() -> None:
    """Make mmseg importable, or say in one message why it is not. To be called before mmseg is imported.

    Raises:
        ImportError: Packages are missing, out of range, or do not fit each other.
    """
    problems = check_versions(installed_versions())
    fatal = [problem for problem in problems if problem.fatal] or check_imports()
    if fatal:
        count = 'one package does' if len(fatal) == 1 else f'{len(fatal)} packages do'
        lines = '\n'.join(f'- {problem}' for problem in fatal)
        raise ImportError(
            f'mmseg_sclip cannot start, because {count} not fit:\n{lines}\n'
            '(`mmseg-sclip doctor` shows the whole environment)'
        )
    for problem in problems:
        warnings.warn(str(problem), stacklevel=3)
    if not has_compiled_ops():
        # mmseg imports names from mmcv.ops that SCLIP never uses. There must be no placeholder for `mmcv._ext`:
        # mmengine looks for it to learn whether compiled ops are there.
        sys.modules.setdefault('mmcv.ops', _placeholder())
        # mmcv-lite advises on every start to install mmcv for an op that nothing here needs.
        warnings.filterwarnings('ignore', message='Fail to import ``MultiScaleDeformableAttention``')


def _importable(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def _in_range(version: str, allowed: str) -> bool:
    try:
        return SpecifierSet(allowed).contains(Version(version), prereleases=True)
    except InvalidVersion:
        return True  # UNKNOWN, or a private build: mmseg's own checks have the last word


def _check_mmcv(mmcv: str | None, lite: str | None) -> list[Problem]:
    if mmcv is None and lite is None:
        text = (
            'neither mmcv nor mmcv-lite is installed; install mmcv-lite with the extra `mmseg_sclip[lite]`, '
            f'or mmcv{MMCV_ALLOWED} if other projects need its compiled ops'
        )
        return [Problem('mmcv', text, INSTALL_LITE)]
    if mmcv is not None and lite is not None:
        text = (
            f'mmcv {mmcv} and mmcv-lite {lite} are installed over each other, and one has overwritten files of '
            'the other. Uninstall both and install one: mmcv-lite as below, or mmcv to keep compiled ops'
        )
        return [Problem('mmcv', text, f'pip uninstall -y mmcv mmcv-lite && {INSTALL_LITE}', fatal=False)]
    return []


def _placeholder() -> ModuleType:
    """A module `mmcv.ops` any name of which can be imported, and raises when it is used."""
    module = importlib.util.module_from_spec(ModuleSpec('mmcv.ops', loader=None))

    def missing_op(name: str) -> type:
        if name.startswith('__'):  # `inspect` asks every module for `__file__` and the like
            raise AttributeError(f'module mmcv.ops has no attribute {name!r}')
        if name in ('get_compiler_version', 'get_compiling_cuda_version'):  # mmcv's collect_env expects this error
            raise ModuleNotFoundError('mmcv has no compiled ops')

        def refuse(cls: type, *args: object, **kwargs: object) -> None:
            raise RuntimeError(
                f'mmcv.ops.{name} needs the compiled ops of mmcv, which mmcv-lite does not have. '
                'No part of mmseg_sclip uses them; for a model that does, run: '
                f'pip uninstall -y mmcv-lite && pip install "mmcv{MMCV_ALLOWED}"'
            )

        # A class, so that `isinstance` and subclassing work: only calling it, or a subclass, raises.
        op = type(name, (), {'__new__': refuse, '__module__': 'mmcv.ops'})
        setattr(module, name, op)
        return op

    module.__getattr__ = missing_op
    return module
