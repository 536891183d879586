"""The tensors of a TorchScript archive, read without running anything else that is in it.

OpenAI released CLIP in this format: a zip with the modules as a pickle (`NAME/data.pkl`), the numbers of their tensors
(`NAME/data/0`, `NAME/data/1`, ...) and code. `torch.jit.load` compiles the code, and runs it where a class has a
`__setstate__`. Here the pickle yields plain records, and tensors are made of them afterwards.
"""

from __future__ import annotations

import pickle
import re
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import torch
from torch import Tensor

_DTYPES = dict(
    DoubleStorage=torch.float64,
    FloatStorage=torch.float32,
    HalfStorage=torch.float16,
    BFloat16Storage=torch.bfloat16,
    LongStorage=torch.int64,
    IntStorage=torch.int32,
    ShortStorage=torch.int16,
    CharStorage=torch.int8,
    ByteStorage=torch.uint8,
    BoolStorage=torch.bool,
)
_LISTS = ('build_intlist', 'build_doublelist', 'build_boollist', 'build_tensorlist')


def is_torchscript(path: Path | BinaryIO) -> bool:
    """Whether a file is a zip that holds the constants of TorchScript code, as no other file of weights does."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.split('/')[1:] == ['constants.pkl'] for name in archive.namelist())


def read_torchscript(path: Path) -> dict[str, Tensor]:
    """The parameters and buffers under their names, as in `torch.jit.load(path).state_dict()`, on the CPU.

    Each storage is read from the file once, and tensors that share one share it here, too.

    Raises:
        pickle.UnpicklingError: The archive names something else than modules and tensors.
        Exception: The archive is damaged; zipfile, pickle and torch raise many kinds.
    """
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        root = next(name for name in names if name.split('/')[1:] == ['constants.pkl']).partition('/')[0]
        records = dict(_named_tensors(_unpickle(archive, root)))
        order = archive.read(f'{root}/byteorder').decode() if f'{root}/byteorder' in names else 'little'
        storages = {
            storage: _numbers(archive.read(f'{root}/data/{storage.key}'), storage.dtype, order)
            for storage in {record.storage for record in records.values()}
        }
    return {
        name: storages[record.storage].as_strided(record.size, record.stride, record.offset)
        for name, record in records.items()
    }


class _Storage(NamedTuple):
    dtype: torch.dtype
    key: str


class _Tensor(NamedTuple):
    storage: _Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


def _unpickle(archive: zipfile.ZipFile, root: str) -> Any:
    """The module in `data.pkl`; the classes and functions made here are all that the pickle can call."""

    class Module:
        attributes: Any = None
        declared: frozenset[str] | None = None  # the names of its parameters and buffers; None for all tensors

        def __setstate__(self, state: Any) -> None:  # in place of one that the code may define
            self.attributes = state

    def rebuild_tensor(storage: Any, offset: int, size: tuple, stride: tuple, *rest: Any) -> _Tensor:
        return _Tensor(storage, offset, size, stride)

    def first(value: Any, *rest: Any) -> Any:
        return value

    known = {
        ('torch._utils', '_rebuild_tensor_v2'): rebuild_tensor,
        ('torch._utils', '_rebuild_parameter'): first,
        ('torch.jit._pickle', 'restore_type_tag'): first,
        ('torch', 'device'): first,
        ('builtins', 'complex'): first,
        ('collections', 'OrderedDict'): OrderedDict,
        **{('torch.jit._pickle', name): first for name in _LISTS},
        **{('torch', name): dtype for name, dtype in _DTYPES.items()},
    }

    class Unpickler(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            if (module, name) not in known:
                if module.partition('.')[0] != '__torch__':
                    raise pickle.UnpicklingError(f'it names {module}.{name}')
                known[module, name] = type('Module', (Module,), dict(declared=_declared(archive, root, module, name)))
            return known[module, name]

        def persistent_load(self, pid: Any) -> _Storage:
            kind, dtype, key, *_ = pid
            if kind != 'storage' or not isinstance(dtype, torch.dtype):
                raise pickle.UnpicklingError(f'it names a {kind}')
            return _Storage(dtype, key)

    with archive.open(f'{root}/data.pkl') as file:
        return Unpickler(file).load()


def _declared(archive: zipfile.ZipFile, root: str, module: str, name: str) -> frozenset[str] | None:
    """What the code of a class, read as text, calls its parameters and buffers; None where it does not say."""
    path = f'{root}/code/{module.replace(".", "/")}.py'
    code = archive.read(path).decode() if path in archive.namelist() else ''
    head = re.search(rf'^class {re.escape(name)}\(Module\):\n((?:  __\w+__ = .*\n)*)', code, re.MULTILINE)
    return frozenset(re.findall(r'"([^"]*)"', head[1])) if head and '__buffers__' in head[1] else None


def _named_tensors(module: Any, prefix: str = '') -> Iterator[tuple[str, _Tensor]]:
    for name, value in module.attributes.items() if isinstance(module.attributes, dict) else ():
        if isinstance(value, _Tensor):
            if module.declared is None or name in module.declared:
                yield prefix + name, value
        elif hasattr(value, 'attributes'):
            yield from _named_tensors(value, f'{prefix}{name}.')


def _numbers(content: bytes, dtype: torch.dtype, order: str) -> Tensor:
    """All numbers of a storage, (numbers,)."""
    if not content:
        return torch.empty(0, dtype=dtype)
    numbers = torch.frombuffer(bytearray(content), dtype=dtype)
    if order != sys.byteorder:
        numbers.untyped_storage().byteswap(dtype)
    return numbers
