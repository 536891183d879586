"""Reading CLIP weights of every form in use, and checking them against the architecture."""

from __future__ import annotations

import pickle
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import torch
from safetensors.torch import load_file
from torch import Tensor

from ...compat import open_clip
from ...errors import BadFileError
from .plain_values import asked_for, plain_values
from .torchscript import is_torchscript, read_torchscript

_PACKAGE = Path(__file__).resolve().parents[2]
# OpenAI's archives carry these beside the weights; no other CLIP file does.
_OPENAI_KEYS = ('input_resolution', 'context_length', 'vocab_size')
# Not needed for features: temperatures, and buffers that old versions saved.
_UNUSED = ('logit_scale', 'logit_bias', 'attn_mask', 'text.attn_mask', *_OPENAI_KEYS)
USUAL_SCALE = 100.0  # of cosines; OpenAI's weights and most others have it


class Weights(NamedTuple):
    """What a file of weights says.

    Attributes:
        state_dict: The towers, in open_clip's naming.
        from_openai: Whether OpenAI made it; None where the file does not tell.
        logit_scale: What cosines were multiplied with in training; the usual factor where the file does not tell.
    """

    state_dict: dict[str, Tensor]
    from_openai: bool | None
    logit_scale: float


def read_weights(path: Path) -> Weights:
    """Read a state dict from a TorchScript archive, a pickle or safetensors onto the CPU.

    Nothing but tensors is read, and no code in the file is ever run.

    Raises:
        BadFileError: The file is damaged, holds something else, or one of its values is not finite.
    """
    content, torchscript = read_tensors(path), is_torchscript(path)
    content = content.get('state_dict', content) if isinstance(content, Mapping) else content
    if not isinstance(content, Mapping) or not content:
        raise BadFileError(f'{path} holds a {type(content).__name__} and no state dict of tensors.')
    prefix = 'module.' if all(str(key).startswith('module.') for key in content) else ''  # of a parallel wrapper
    state_dict = {str(key).removeprefix(prefix): value for key, value in content.items()}
    from_openai = True if torchscript or any(key in state_dict for key in _OPENAI_KEYS) else None
    scale = state_dict.get('logit_scale')  # its logarithm
    scale = scale.float().exp().item() if isinstance(scale, Tensor) and scale.numel() == 1 else USUAL_SCALE
    state_dict = {key: value for key, value in state_dict.items() if not is_unused(key)}
    for key, value in state_dict.items():
        if not isinstance(value, Tensor):
            raise BadFileError(
                f"{path} holds a {type(value).__name__} under '{key}' where a tensor was expected: it is "
                'no state dict of CLIP. A training checkpoint must keep it under state_dict.'
            )
    refuse_not_finite(path, state_dict)
    return Weights(state_dict, from_openai, scale)


def read_tensors(path: Path) -> Any:
    """The content of a file of tensors, on the CPU; pickles with `weights_only`, memory-mapped where they allow it.

    Raises:
        BadFileError: The file is damaged, or holds objects other than tensors.
    """
    advice = 'Fetch it again'
    if path.resolve().is_relative_to(_PACKAGE):
        advice = 'It belongs to mmseg_sclip: install the package again'
    try:
        if _is_safetensors(path):
            return load_file(path)
        if is_torchscript(path):
            return read_torchscript(path)
        return read_pickle(path, mmap=zipfile.is_zipfile(path))
    except (PermissionError, FileNotFoundError, IsADirectoryError) as error:
        raise BadFileError(f'{path} cannot be read ({error.strerror}).') from error
    except pickle.UnpicklingError as error:
        if reason := _damage(path):
            raise BadFileError(f'{path} cannot be read as weights ({reason}). {advice}.') from error
        raise BadFileError(
            f'{path} cannot be read as weights: it is damaged, or holds objects other than tensors, which could run '
            f'code and are not loaded{asked_for(error)}. {advice}; if you trust the file, load it once yourself and '
            'save its state dict with safetensors.'
        ) from error
    except Exception as error:  # on a damaged file torch raises nearly anything: IndexError, struct.error, ...
        said = str(error).strip().splitlines()[:1]
        said = said if any(' ' in line.strip('[]() ') for line in said) else ['it is no file of torch or safetensors']
        reason = _damage(path) or said[0].partition('. ')[0]
        raise BadFileError(
            f'{path} cannot be read as weights ({reason}). It is damaged or was not downloaded completely. {advice}.'
        ) from error


def _damage(path: Path) -> str:
    """What a file that cannot be read shows of how it was damaged, or nothing."""
    with open(path, 'rb') as file:
        start = file.read(64).lstrip().lower()
    if not start:
        return 'it is empty'
    if start.startswith((b'<!doctype', b'<html')):
        return 'it is a web page'
    if start.startswith(b'version https://git-lfs'):
        return 'it is a pointer of Git LFS and not the file itself'
    return 'its end is missing' if start.startswith(b'pk\x03\x04') and not zipfile.is_zipfile(path) else ''


def read_pickle(file: Path | BinaryIO, mmap: bool = False) -> Any:
    """`torch.load` with `weights_only`, of what every torch reads so without running code, and of `plain_values`.

    Args:
        file: A path, or an open file at its beginning.
        mmap: See `torch.load`.

    Raises:
        pickle.UnpicklingError: The file holds, or may hold, objects other than tensors and plain values.
        Exception: It is damaged; torch raises many kinds.
    """
    for kind, found in (('tar', tarfile.is_tarfile(file)), ('TorchScript', is_torchscript(file))):
        if found:  # torch before 0.2 wrote tar archives
            raise pickle.UnpicklingError(f'it is a {kind} archive')
    if not isinstance(file, Path):
        file.seek(0)
    with plain_values():
        return torch.load(file, map_location='cpu', weights_only=True, mmap=mmap)


def refuse_not_finite(path: Path | str, state_dict: Mapping[str, Tensor]) -> None:
    """Refuse weights with NaN or infinity, whose scores would all be NaN.

    Args:
        path: The file or what else the message shall call it.
        state_dict: What it holds.

    Raises:
        BadFileError: With the name of the first such entry.
    """
    for key, value in state_dict.items():
        if value.is_floating_point() and value.numel() and not torch.stack(value.aminmax()).isfinite().all():
            raise BadFileError(
                f"{path} cannot be used: its entry '{key}' holds NaN or infinity, so that every score would be NaN. "
                'The training diverged, or the file is damaged: take other weights.'
            )


def fit_weights(
    path: Path | str,
    state_dict: dict[str, Tensor],
    expected: Mapping[str, Tensor],
    name: str,
    advice: str = 'Give the model_name that these weights were trained with.',
) -> dict[str, Tensor]:
    """Check names and shapes against the architecture; nothing is resized silently.

    Args:
        path: The file or what else messages shall call it.
        state_dict: What it holds.
        expected: The state dict of the model, on any device.
        name: The architecture's name, for messages.
        advice: What to do where they do not fit, as a whole sentence.

    Returns:
        The entries under the model's own names.

    Raises:
        BadFileError: An entry is missing, left over or of another shape.
    """
    if any(key.startswith('text.') for key in expected) and 'text_projection' in state_dict:
        state_dict = open_clip.model.convert_to_custom_text_state_dict(state_dict)
    expected = {key: value for key, value in expected.items() if not is_unused(key)}
    problems = [
        *(
            f'{key} is {_shape(state_dict[key])} in the file and {_shape(value)} in the model'
            for key, value in expected.items()
            if key in state_dict and state_dict[key].shape != value.shape
        ),
        *(f'{key} is missing in the file' for key in expected if key not in state_dict),
        *(f'{key} is unknown to the model' for key in state_dict if key not in expected and not is_unused(key)),
    ]
    if problems:
        more = f' and {len(problems) - 3} more' if len(problems) > 3 else ''
        raise BadFileError(
            f'The weights {path} do not fit the architecture {name}: {"; ".join(problems[:3])}{more}. {advice}'
        )
    return {key: state_dict[key] for key in expected}


def is_unused(key: str) -> bool:
    """Whether an entry of a CLIP's state dict is of no use for features."""
    return key in _UNUSED or key.endswith('.position_ids')


def _is_safetensors(path: Path) -> bool:
    with open(path, 'rb') as file:  # eight bytes of length, then JSON; no pickle or archive begins so
        return path.suffix == '.safetensors' or file.read(10)[8:] == b'{"'


def _shape(tensor: Tensor) -> str:
    return 'x'.join(map(str, tensor.shape)) or 'a number'
