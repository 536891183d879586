"""What the vectors of a text tower depend on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...files import file_hash
from .architecture import Architecture
from .config import ClipConfig

_VERSION = 1  # to be raised when the vectors of the same weights change beyond rounding
# Files of a tokenizer in a folder; what a name of a hub stands for does not change.
_TOKENIZER_FILES = ('*token*', 'vocab*', 'merges*', '*.model')


def text_identity(config: ClipConfig, architecture: Architecture, weights: Path, memory: Path) -> dict[str, Any]:
    """The weights by their content, and all that is done with them; JSON types.

    Args:
        config: The user's choice.
        architecture: What it was resolved to.
        weights: The file of the weights.
        memory: Where the hashes of files are remembered, see `file_hash`.
    """
    model = architecture.model
    folders = [folder for folder in (model['text_cfg'].get('hf_tokenizer_name'), config.folder) if folder]
    files = {path for folder in folders for pattern in _TOKENIZER_FILES for path in Path(folder).glob(pattern)}
    return dict(
        version=_VERSION,
        weights=file_hash(weights, memory),
        tower={key: model.get(key) for key in ('embed_dim', 'text_cfg', 'quick_gelu', 'custom_text')},
        overrides={key: config.override(key, 'text') for key in ('activation', 'norm_eps')},
        precision=config.precision,
        tokenizer={str(path): file_hash(path, memory) for path in sorted(files) if path.is_file()},
    )
