"""The source code that a result depends on: this package's, and that of the user's modules."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import mmseg.registry
from mmengine.registry import Registry

from ..files import file_hash
from ..paths import PACKAGE

# Their versions stand for them, wherever they are installed.
_VERSIONED = ('cv2', 'mmcv', 'mmengine', 'mmseg', 'mmseg_sclip', 'numpy', 'open_clip', 'torch', 'torchvision')
_INSTALLED = {'site-packages', 'dist-packages'}


def package_sources() -> dict[str, str]:
    """Hashes of this package's own files by their path inside it."""
    files = [path for suffix in ('.py', '.txt', '.json') for path in PACKAGE.rglob(f'*{suffix}')]
    return {f'mmseg_sclip/{path.relative_to(PACKAGE).as_posix()}': file_hash(path) for path in sorted(files)}


def user_sources(names: Iterable[str]) -> dict[str, str]:
    """Hashes of the files of the user's modules that a config uses, by file.

    A module counts if the config names it, or if it has been imported and its name stands as a word in the source of
    one that counts; the packages that it lies in count too. What belongs to Python, what is installed in
    `site-packages`, and what the running program imports besides, such as its own `__main__` or the configs of other
    methods, do not count. So all processes of a test, and the one that resumes it, find the same files.

    Args:
        names: Of modules that have been imported: those of `custom_imports`, and those of the classes that are named.
    """
    loaded = {name: path for name, module in list(sys.modules.items()) if (path := _file(name, module)) is not None}
    found: dict[str, Path] = {}
    queue = [name for name in names if name]
    while queue:
        name = queue.pop()
        if name.partition('.')[2]:
            queue.append(name.rpartition('.')[0])  # importing a module runs the packages that it lies in
        if name in found or name not in loaded:
            continue
        found[name] = loaded[name]
        words = set(re.findall(r'\w+', loaded[name].read_text(encoding='utf-8', errors='replace')))
        queue += [other for other in loaded if other.rpartition('.')[2] in words]
    return {str(path): file_hash(path) for path in sorted(set(found.values()))}


def modules_of_types(settings: Any) -> set[str]:
    """The modules of the classes that settings name as `type`, by a registered name or by the class itself."""
    if isinstance(settings, Mapping):
        found = set().union(*map(modules_of_types, settings.values()))
        return found | (_modules_of(settings['type']) if 'type' in settings else set())
    return set().union(*map(modules_of_types, settings)) if isinstance(settings, list) else set()


def _file(name: str, module: Any) -> Path | None:
    """The file of a module of the user's; None for others."""
    top = name.partition('.')[0]
    file = getattr(module, '__file__', None)
    if file is None or top == '__main__' or top in _VERSIONED or top in sys.stdlib_module_names:
        return None
    path = Path(file)
    return path if path.suffix == '.py' and path.is_file() and not _INSTALLED & set(path.parts) else None


def _modules_of(type_: Any) -> set[str]:
    if not isinstance(type_, str):
        return {getattr(type_, '__module__', '')}
    module, _, name = type_.rpartition('.')  # a scope, a module, or nothing in front
    registries = [registry for registry in vars(mmseg.registry).values() if isinstance(registry, Registry)]
    classes = [
        registry.module_dict[name]
        for own in registries
        for registry in (own, own.parent)
        if registry is not None and name in registry.module_dict
    ]
    return {module, *(getattr(cls, '__module__', '') for cls in classes)}
