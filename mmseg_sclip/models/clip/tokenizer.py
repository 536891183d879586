"""The tokenizer that belongs to an architecture."""

from collections.abc import Callable

from torch import Tensor

from ...compat import open_clip
from .architecture import Architecture
from .config import ClipConfig
from .hugging_face import with_transformers


def build_tokenizer(config: ClipConfig, architecture: Architecture) -> Callable[..., Tensor]:
    """CLIP's own tokenizer, or the one of Hugging Face that the description names, with the model's context length.

    Raises:
        ConfigError: A package of Hugging Face's tokenizer is missing.
        MissingFileError: Its files are.
    """
    text = architecture.model['text_cfg']
    options = dict(context_length=text.get('context_length', 77), **(text.get('tokenizer_kwargs') or {}))
    name = text.get('hf_tokenizer_name')
    if not name:
        return open_clip.SimpleTokenizer(**options)
    # A description may ask for code of the tokenizer's own repository to be run; it is not.
    options.update(cache_dir=config.cache_dir, tokenizer_mode=text.get('tokenizer_mode'), trust_remote_code=False)
    name = str(config.folder or name)
    with with_transformers(f"The tokenizer '{name}' of {architecture.name}"):
        return open_clip.tokenizer.HFTokenizer(name, **options)
