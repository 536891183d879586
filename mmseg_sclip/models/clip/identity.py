"""What the vectors of a text tower depend on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...utils.cache_files import file_hash
from .architecture import Architecture
from .config import ClipConfig

_VERSION = 1  # to be raised when the vectors of the same weights change beyond rounding
# Of a tokenizer in a folder; what a name of a hub stands for does not change.
_TOKENIZER_FILES = ('*token*', 'vocab*', 'merges*', '*.model')


def text_identity(config: ClipConfig, architecture: Architecture, memory: Path) -> dict[str, Any] | None:
    """The weights by their content, and all that is done with them; JSON types.

    Args:
        config: The user's choice.
        architecture: What it was resolved to.
        memory: Where the hashes of files are remembered, see `file_hash`.

    Returns:
        None for random weights, which are new at every start.
    """
    if architecture.weights is None:
        return None
    model = architecture.model
    folders = [model['text_cfg'].get('hf_tokenizer_name')]
    if config.model_name.startswith('local-dir:'):
        folders.append(Path(config.model_name.removeprefix('local-dir:')).expanduser())
    files = sorted(
        {path for folder in folders if folder for pattern in _TOKENIZER_FILES for path in Path(folder).glob(pattern)}
    )
    return dict(
        version=_VERSION,
        weights=file_hash(architecture.weights, memory),
        tower={key: model.get(key) for key in ('embed_dim', 'text_cfg', 'quick_gelu', 'custom_text')},
        overrides={key: config.override(key, 'text') for key in ('activation', 'norm_eps')},
        precision=config.precision,
        tokenizer={str(path): file_hash(path, memory) for path in files if path.is_file()},
    )
