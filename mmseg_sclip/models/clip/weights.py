"""Reading CLIP weights of every form in use, and checking them against the architecture."""

from __future__ import annotations

import pickle
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from open_clip.model import convert_to_custom_text_state_dict
from safetensors.torch import load_file
from torch import Tensor

# OpenAI's archives carry these beside the weights; no other CLIP file does.
_OPENAI_KEYS = ('input_resolution', 'context_length', 'vocab_size')
# Not needed for features: temperatures, and buffers that old versions saved.
_UNUSED = ('logit_scale', 'logit_bias', 'attn_mask', 'text.attn_mask', *_OPENAI_KEYS)


class Weights(NamedTuple):
    """A state dict in open_clip's naming, and whether OpenAI made it (None where the file does not tell)."""

    state_dict: dict[str, Tensor]
    from_openai: bool | None


def read_weights(path: Path) -> Weights:
    """Read a TorchScript archive, a pickled state dict or safetensors onto the CPU.

    Pickles are read with `weights_only`, memory-mapped where the format allows.

    Raises:
        ValueError: The file is damaged or holds something else.
    """
    try:
        if path.suffix == '.safetensors' or _is_safetensors(path):
            content = load_file(path)
        elif _is_torchscript(path):
            return Weights(_clean(path, _read_torchscript(path)), True)
        else:
            content = torch.load(path, map_location='cpu', weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        raise ValueError(
            f'{path} cannot be read as weights: it is damaged, or holds objects other than tensors, which could run '
            'code and are not loaded. Fetch it again; if you trust the file, load it once yourself and save its state '
            'dict with safetensors.'
        ) from error
    except Exception as error:  # on a damaged file torch raises nearly anything: IndexError, struct.error, ...
        raise ValueError(
            f'{path} cannot be read as weights ({_first_sentence(error)}). It is damaged or was not '
            'downloaded completely; fetch it again.'
        ) from error
    content = content.get('state_dict', content) if isinstance(content, Mapping) else content
    if not isinstance(content, Mapping) or not content:
        raise ValueError(f'{path} holds a {type(content).__name__} and no state dict of tensors.')
    return Weights(_clean(path, content), True if any(key in content for key in _OPENAI_KEYS) else None)


def _first_sentence(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].partition('. ')[0]


def _is_safetensors(path: Path) -> bool:
    with open(path, 'rb') as file:  # eight bytes of length, then JSON; no pickle or archive begins so
        return file.read(10)[8:] == b'{"'


def _is_torchscript(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any('/code/' in name or name.endswith('/constants.pkl') for name in archive.namelist())


def _read_torchscript(path: Path) -> dict[str, Tensor]:
    # The format stores code beside tensors, so `weights_only` refuses it; only the tensors are kept.
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', FutureWarning)  # torch would replace the format, but OpenAI's files have it
        return dict(torch.jit.load(path, map_location='cpu').state_dict())


def _clean(path: Path, content: Mapping) -> dict[str, Tensor]:
    """Strip the prefix of a parallel wrapper, and drop what features do not need."""
    prefix = 'module.' if all(str(key).startswith('module.') for key in content) else ''
    kept = {}
    for key, value in content.items():
        key = str(key).removeprefix(prefix)
        if key in _UNUSED or key.endswith('.position_ids'):
            continue
        if not isinstance(value, Tensor):
            raise ValueError(
                f"{path} holds a {type(value).__name__} under '{key}' where a tensor was expected: it is "
                'no state dict of CLIP. A training checkpoint must keep it under state_dict.'
            )
        kept[key] = value
    return kept


def fit_weights(
    path: Path | str, state_dict: dict[str, Tensor], expected: Mapping[str, Tensor], name: str
) -> dict[str, Tensor]:
    """Check names and shapes against the architecture; nothing is resized silently.

    Args:
        path: The file or what else messages shall call it.
        state_dict: What it holds.
        expected: The state dict of the model, on any device.
        name: The architecture's name, for messages.

    Returns:
        The entries under the model's own names.

    Raises:
        ValueError: An entry is missing, left over or of another shape.
    """
    if any(key.startswith('text.') for key in expected) and 'text_projection' in state_dict:
        state_dict = convert_to_custom_text_state_dict(state_dict)
    expected = {key: value for key, value in expected.items() if key not in _UNUSED}
    wrong = [
        f'{key} is {_shape(state_dict[key])} in the file and {_shape(value)} in the model'
        for key, value in expected.items()
        if key in state_dict and state_dict[key].shape != value.shape
    ]
    missing = [f'{key} is missing in the file' for key in expected if key not in state_dict]
    left_over = [f'{key} is unknown to the model' for key in state_dict if key not in expected and key not in _UNUSED]
    problems = wrong + missing + left_over
    if problems:
        more = f' and {len(problems) - 3} more' if len(problems) > 3 else ''
        raise ValueError(
            f'The weights {path} do not fit the architecture {name}: {"; ".join(problems[:3])}{more}. '
            'Give the model_name that these weights were trained with.'
        )
    return {key: state_dict[key] for key in expected}


def _shape(tensor: Tensor) -> str:
    return 'x'.join(map(str, tensor.shape)) or 'a number'
