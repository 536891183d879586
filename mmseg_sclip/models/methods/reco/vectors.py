"""Ready reference vectors, out of a file whose code is never run."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ....errors import BadFileError
from ...clip.plain_values import plain_class
from ...clip.weights import read_pickle, read_tensors


def read_vectors(path: Path) -> dict[str, Tensor]:
    """The vectors of a file {class: vector}: safetensors, a file of `torch.save`, or a pickle of plain arrays.

    Returns:
        (C,) each, float32.

    Raises:
        BadFileError: It is damaged, holds something else, or vectors of several lengths.
    """
    content = _read(path)
    if not isinstance(content, Mapping) or not content:
        raise BadFileError(f'{path} holds no vectors of classes: it must map each class to its vector.')
    found = {}
    for name, value in content.items():
        vector = torch.from_numpy(value.astype(np.float32)) if isinstance(value, np.ndarray) else value
        if not isinstance(vector, Tensor) or vector.numel() < 2 or not vector.isfinite().all():
            raise BadFileError(f'{path} holds no vector of finite numbers for {name!r}.')
        found[str(name)] = vector.detach().float().flatten()
    lengths = {len(vector) for vector in found.values()}
    if len(lengths) > 1:
        raise BadFileError(f'{path} holds vectors of several lengths ({", ".join(map(str, sorted(lengths)))}).')
    return found


def _read(path: Path) -> Any:
    if path.suffix == '.safetensors' or zipfile.is_zipfile(path):
        return read_tensors(path)
    try:
        content = _Unpickler(io.BytesIO(path.read_bytes())).load()
    except Exception as error:  # a damaged pickle raises nearly anything
        raise BadFileError(
            f'{path} cannot be read as vectors ({error or type(error).__name__}). It is damaged, or holds objects '
            'other than arrays, which could run code and are not loaded.'
        ) from error
    return read_tensors(path) if isinstance(content, int) else content  # with an int files of an old torch.save begin


class _Unpickler(pickle.Unpickler):
    """Reads arrays and tensors, and nothing whose code would run."""

    def find_class(self, module: str, name: str) -> Any:
        path = f'{module}.{name}'
        return _KNOWN[path] if path in _KNOWN else plain_class(path)


def _storage(content: bytes) -> Any:
    return read_pickle(io.BytesIO(content))


def _tensor(storage: Any, offset: int, size: tuple, stride: tuple, *_: Any) -> Tensor:
    whole = torch.tensor([], dtype=storage.dtype).set_(storage._untyped_storage)
    return whole.as_strided(size, stride, offset).clone()  # which refuses what is not in it, where `set_` enlarges it


def _array(numbers: bytes, kind: Any, shape: tuple, order: Any) -> np.ndarray:
    return np.frombuffer(numbers, kind.dtype).reshape(shape, order=order).copy()


def _bytes(text: str, encoding: str) -> bytes:
    if encoding != 'latin1':
        raise pickle.UnpicklingError('Unsupported class _codecs.encode')
    return text.encode('latin1')


_KNOWN = {  # beside those of `plain_class`
    'torch._utils._rebuild_tensor_v2': _tensor,
    'torch._utils._rebuild_parameter': lambda tensor, *_: tensor,
    'torch.storage._load_from_bytes': _storage,
    'numpy.core.numeric._frombuffer': _array,
    'numpy._core.numeric._frombuffer': _array,
    '_codecs.encode': _bytes,
    'collections.OrderedDict': OrderedDict,
}
