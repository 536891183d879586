"""Packages that are imported at their first use: they import torchvision's models, which import `torch._dynamo`."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from types import ModuleType
from typing import Any

from .imports import UnfitEnvironment, check_imports


class LateModule(ModuleType):
    """Stands for a package until something of it is asked for."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith('__') and name != '__version__':  # `inspect` asks every module for `__file__` and the like
            raise AttributeError(f'module {self.__name__} has no attribute {name!r}')
        try:
            module = importlib.import_module(self.__name__)
        except Exception as error:  # see `check_imports`
            problems = check_imports()
            if not problems:
                raise
            raise UnfitEnvironment(problems) from error
        return getattr(module, name)


open_clip = LateModule('open_clip')


def import_mmseg_without_timm() -> None:
    """Import MMSegmentation's models; its one backbone that uses timm imports it when it is built."""
    if 'timm' in sys.modules or (spec := importlib.util.find_spec('timm')) is None:
        return
    sys.modules['timm'] = LateModule('timm')
    sys.modules['timm'].__spec__ = spec  # transformers, which MMEngine imports where it is installed, looks at it
    try:
        importlib.import_module('mmseg.models')
    finally:
        del sys.modules['timm']
