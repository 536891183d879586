"""Modules whose import fails when binaries do not fit each other or the system."""

from __future__ import annotations

import importlib
from collections.abc import Mapping

from .versions import Problem, installed_versions

# Modules whose import fails when binaries do not fit each other or the system, and what helps.
FRAGILE = {
    'torch': 'pip install --force-reinstall torch torchvision',
    'torchvision': 'pip install --upgrade --force-reinstall torch torchvision',
    'cv2': 'pip uninstall -y opencv-python && pip install opencv-python-headless',
    'open_clip': 'pip install "open_clip_torch>=3,<4"',  # which brings ftfy and regex; MMSegmentation needs them, too
}


EARLY = {name: FRAGILE[name] for name in ('torch', 'cv2')}  # the others are imported when they are used


class UnfitEnvironment(ImportError):
    """The packages do not fit each other, so mmseg_sclip cannot be imported."""

    def __init__(self, problems: list[Problem]) -> None:
        count = 'one package does' if len(problems) == 1 else f'{len(problems)} packages do'
        lines = '\n'.join(f'- {problem}' for problem in problems)
        super().__init__(
            f'mmseg_sclip cannot start, because {count} not fit:\n{lines}\n'
            '(`mmseg-sclip doctor` shows the whole environment)'
        )


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
