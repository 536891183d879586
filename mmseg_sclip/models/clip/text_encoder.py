"""The text side of a CLIP of open_clip: its tokenizer, its tower, and what their vectors depend on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from ...compat import open_clip
from ...errors import ConfigError
from ...files import file_hash
from ..text.encoder import TextEncoder
from .hugging_face import with_transformers
from .prompt_encoding import encode_prompts

if TYPE_CHECKING:
    from .source import ClipSource

_VERSION = 1  # to be raised when the vectors of the same weights change beyond rounding
# Files of a tokenizer in a folder; what a name of a hub stands for does not change.
_TOKENIZER_FILES = ('*token*', 'vocab*', 'merges*', '*.model')


class ClipTextEncoder(TextEncoder):
    """open_clip's text tower with its tokenizer.

    Args:
        source: Where the weights come from.
    """

    def __init__(self, source: ClipSource) -> None:
        super().__init__(source.config.keep_text, source.config.cache_dir)
        self.source = source
        self.reads_english = not source.architecture.model['text_cfg'].get('hf_tokenizer_name')
        self._tokenizer: Callable[..., Tensor] | None = None
        self._identity: dict[str, Any] | None = None

    @property
    def logit_scale(self) -> float:
        """What the weights say; 100 in OpenAI's, in files that do not say it, and for random ones."""
        return self.source.logit_scale()

    def load(self) -> nn.Module:
        """An open_clip model of which only the text side has memory; errors as in `ClipSource.text_tower`."""
        self._tokenizer = self.tokenizer()  # first, since it may need what is not installed
        return self.source.text_tower()

    def tokenizer(self) -> Callable[..., Tensor]:
        """CLIP's own tokenizer, or the one of Hugging Face that the description names, with the model's context length.

        Raises:
            ConfigError: A package of Hugging Face's tokenizer is missing.
            MissingFileError: Its files are.
        """
        config, architecture = self.source.config, self.source.architecture
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

    def embed(self, network: Any, prompts: Sequence[str]) -> Tensor:
        """(prompts, D); a prompt that is too long raises a ConfigError."""
        assert self._tokenizer is not None
        tokens = tokenize(self._tokenizer, prompts, network.context_length)
        return encode_prompts(network, tokens, f'Encoding {len(prompts)} prompts')

    def identity(self) -> dict[str, Any] | None:
        """The weights by their content, and all that is done with them.

        None for random weights, and for a file that has changed since it was read.
        """
        weights = self.source.unchanged_weights()
        if weights is None:
            return None
        if self._identity is None:
            config, model, memory = self.source.config, self.source.architecture.model, self.folder / 'file_hashes.json'
            self._identity = dict(
                version=_VERSION,
                weights=file_hash(weights, memory),
                tower={key: model.get(key) for key in ('embed_dim', 'text_cfg', 'quick_gelu', 'custom_text')},
                overrides={key: config.override(key, 'text') for key in ('activation', 'norm_eps')},
                precision=config.precision,
                tokenizer={str(path): file_hash(path, memory) for path in self._tokenizer_files()},
            )
        return self._identity

    def _tokenizer_files(self) -> list[Path]:
        name, folder = self.source.architecture.model['text_cfg'].get('hf_tokenizer_name'), self.source.config.folder
        folders = [Path(place) for place in (name, folder) if place]
        found = {path for place in folders for pattern in _TOKENIZER_FILES for path in place.glob(pattern)}
        return sorted(path for path in found if path.is_file())

    def release(self) -> None:
        """Forget the weights read so far; they are read again if a tower is built later."""
        self.source.release()


def tokenize(tokenizer: Callable, prompts: Sequence[str], context_length: int) -> Tensor:
    """Token ids (len(prompts), context_length); the tokenizers of open_clip would cut long prompts silently.

    Raises:
        ConfigError: A prompt does not fit.
    """
    pad = getattr(getattr(tokenizer, 'tokenizer', None), 'pad_token_id', None) or 0
    tokens = tokenizer(list(prompts), context_length=context_length + 1)
    too_long = (tokens[:, context_length] != pad).nonzero()
    if len(too_long):
        raise ConfigError(
            f"The prompt '{prompts[too_long[0].item()]}' is longer than the {context_length} tokens that this CLIP "
            'reads. Shorten the phrase in it.'
        )
    return tokens[:, :context_length]
