"""The source of the user's modules, found by following their imports."""

from __future__ import annotations

import ast
import importlib.machinery
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from ..files import file_hash

# Their versions stand for them, wherever they are installed.
_VERSIONED = ('cv2', 'mmcv', 'mmengine', 'mmseg', 'mmseg_sclip', 'numpy', 'open_clip', 'torch', 'torchvision')
_INSTALLED = ('site-packages', 'dist-packages')


def user_sources(names: Iterable[str]) -> dict[str, str]:
    """Hashes of the source of modules and of all that they import, by file.

    What is installed (in `site-packages`) or belongs to Python is left out. Nothing is imported: imports are read from
    the source, those inside functions too, and words that are the names of loaded modules, as in
    `importlib.import_module('helper')`.

    Args:
        names: Of modules, such as those of `custom_imports`.
    """
    hashes: dict[str, str] = {}
    queue, seen = list(names), set()
    while queue:
        name = queue.pop()
        if not name or name in seen:
            continue
        seen.add(name)
        queue.append(name.rpartition('.')[0])  # importing a module runs the packages that it is in
        path = _source(name)
        if path is not None:
            hashes[str(path)] = file_hash(path)
            queue += _imported(path, name)
    return dict(sorted(hashes.items()))


def _source(name: str) -> Path | None:
    """The file of a module of the user's; None for others, and for what is no module."""
    top = name.partition('.')[0]
    if top in _VERSIONED or top in sys.stdlib_module_names:
        return None
    file = getattr(sys.modules.get(name), '__file__', None) or _find(name)
    path = None if file is None else Path(file)
    return path if path and path.suffix == '.py' and path.is_file() and not set(_INSTALLED) & set(path.parts) else None


def _find(name: str) -> str | None:
    """The file of a module that has not been imported yet."""
    folders = None
    parts = name.split('.')
    for end in range(1, len(parts) + 1):
        spec = importlib.machinery.PathFinder.find_spec('.'.join(parts[:end]), folders)
        if spec is None:
            return None
        folders = spec.submodule_search_locations
        if folders is None and end < len(parts):  # a module has no modules in it
            return None
    return spec.origin


def _imported(path: Path, name: str) -> Iterator[str]:
    """The names of modules in a source; some may be those of functions and classes."""
    package = name if path.name == '__init__.py' else name.rpartition('.')[0]
    for node in ast.walk(ast.parse(path.read_bytes(), str(path))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split('.')[: len(package.split('.')) - node.level + 1] if node.level else []
            module = '.'.join([*above, *filter(None, [node.module])])
            yield module
            yield from (f'{module}.{alias.name}' for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in sys.modules:
            yield node.value
