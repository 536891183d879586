"""What checkpoints hold beside tensors, read as plain values without any of the code that the file names.

MMEngine's checkpoints have a log in them (a class of MMEngine with NumPy arrays), those of MMCV 0.x settings, those of
open_clip NumPy's numbers, and others settings of OmegaConf, which say nothing that is needed here. Each name below
stands for what this module makes, which torch's reader calls in place of what the name means elsewhere; whatever a file
passes to it, no other code runs. All other names stay refused.
"""

from __future__ import annotations

import pickle
import re
from collections import OrderedDict
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime
from typing import Any

import numpy as np
import torch.serialization

_KINDS = ('dict', 'list', 'tuple', 'str', 'int', 'long', 'float', 'bool')
SINCE = '2.5'  # the first torch that lets names be allowed for one call
_REFUSED = re.compile(r'(?:Unsupported global: GLOBAL|unsupported GLOBAL|Unsupported class) ([\w.]+(?:\[\w+\])?)')


class _DType:
    """Of booleans, numbers, bytes or text; NumPy's own can be objects, whose pickles may hold anything."""

    def __init__(self, kind: str = '', *_: Any) -> None:
        if not isinstance(kind, str) or not re.fullmatch(r'[biufcSU]\d{1,9}', kind):
            raise pickle.UnpicklingError(f'Unsupported class numpy.dtype[{kind}]')
        self.dtype = np.dtype(kind)

    def __setstate__(self, state: tuple) -> None:
        if state[1] in ('<', '>'):
            self.dtype = self.dtype.newbyteorder(state[1])


class _Array(np.ndarray):
    def __new__(cls) -> _Array:
        return super().__new__(cls, 0)

    def __setstate__(self, state: tuple) -> None:
        _, shape, kind, fortran, numbers = state
        if not isinstance(kind, _DType) or not isinstance(numbers, bytes):  # a list, where it is of objects
            raise pickle.UnpicklingError('Unsupported class numpy.ndarray[objects]')
        whole: Any = (1, tuple(map(int, shape)), kind.dtype, bool(fortran), numbers)
        super().__setstate__(whole)


class _Log:
    def __setstate__(self, state: dict) -> None:
        self.values = state


class _Inert:
    """Whatever it is made of is dropped."""

    def __new__(cls, *_: Any) -> _Inert:
        return super().__new__(cls)

    def __setstate__(self, state: Any) -> None:
        """Nothing is kept."""


def _new_array(kind: type, *_: Any) -> _Array:
    if not (isinstance(kind, type) and issubclass(kind, _Array)):
        raise pickle.UnpicklingError('Unsupported class numpy.ndarray[subclass]')
    return kind()


def _number(kind: _DType, number: bytes) -> np.generic:
    if not isinstance(kind, _DType) or not isinstance(number, bytes) or len(number) != kind.dtype.itemsize:
        raise pickle.UnpicklingError('Unsupported class numpy.generic[objects]')
    return np.frombuffer(number, kind.dtype)[0]


def _settings(*values: Any) -> OrderedDict:
    """MMEngine passes a dict; MMCV passes pairs, and sets them again as items and as attributes."""
    return OrderedDict(values[0] if values and isinstance(values[0], dict) else values)


def _method_of_a_log(owner: Any, name: str) -> None:
    if not (isinstance(owner, type) and issubclass(owner, _Log)):
        raise pickle.UnpicklingError('Unsupported class builtins.getattr')


def _time(*packed: Any) -> datetime:
    return datetime(*packed)


_ALLOWED: dict[str, Callable] = {
    'numpy.dtype': _DType,
    'numpy.ndarray': _Array,
    # NumPy 2 calls the module _core; files of before have the old name.
    'numpy.core.multiarray._reconstruct': _new_array,
    'numpy._core.multiarray._reconstruct': _new_array,
    'numpy.core.multiarray.scalar': _number,
    'numpy._core.multiarray.scalar': _number,
    # The log of a training, one for each logged number, and its statistics: getattr(HistoryBuffer, 'mean').
    'mmengine.logging.history_buffer.HistoryBuffer': _Log,
    'builtins.getattr': _method_of_a_log,
    '__builtin__.getattr': _method_of_a_log,
    # Settings in `meta`.
    'mmengine.config.config.ConfigDict': _settings,
    'mmcv.utils.config.ConfigDict': _settings,
    'datetime.datetime': _time,
    **{f'omegaconf.{name}Config': _Inert for name in ('dictconfig.Dict', 'listconfig.List')},
    **{f'omegaconf.base.{name}': _Inert for name in ('Metadata', 'ContainerMetadata')},
    **{f'omegaconf.nodes.{kind}Node': _Inert for kind in ('Any', 'String', 'Integer', 'Float', 'Boolean', 'Bytes')},
    # What their values are said to be.
    **{f'typing.{name}': _Inert for name in ('Any', 'Dict', 'List')},
    **{f'{owner}.{kind}': _Inert for owner in ('builtins', '__builtin__') for kind in _KINDS},
    'collections.defaultdict': lambda *_: {},
}


def _named(path: str, made: Callable) -> type:
    """A class that torch's reader takes for the one at `path`."""
    module, _, name = path.rpartition('.')
    if isinstance(made, type):
        return type(name, (made,), {'__module__': module})
    return type(name, (), {'__module__': module, '__new__': lambda cls, *arguments: made(*arguments)})


def plain_values() -> AbstractContextManager:
    """Let `torch.load` with `weights_only` read these values inside; nothing where torch is older than `SINCE`."""
    allow = getattr(torch.serialization, 'safe_globals', None)
    return allow([_named(*item) for item in _ALLOWED.items()]) if allow else nullcontext()


def asked_for(error: Exception) -> str:
    """The name that a file asks for and that is not allowed, as words of a message; '' where it is another error."""
    found = _REFUSED.search(str(error))
    if found is None:
        return ''
    name = found[1].rstrip('.')
    older = name in _ALLOWED and not hasattr(torch.serialization, 'safe_globals')
    return f' (it asks for {name}{f", which torch {SINCE} or newer can read" if older else ""})'


def plain_class(path: str) -> Callable:
    """What stands for the name at `path` in a pickle that torch has not written, for readers of such.

    Raises:
        pickle.UnpicklingError: The name stays refused.
    """
    if path not in _ALLOWED:
        raise pickle.UnpicklingError(f'Unsupported class {path}')
    return _ALLOWED[path]
