"""OVSegmentor's text encoder: BERT, and a projector of two layers."""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ....errors import BadFileError, ConfigError
from ...clip.hugging_face import with_transformers
from ...towers.grouping import build_projection
from ...towers.networks import NetworkTextEncoder

if TYPE_CHECKING:
    from .source import OVSegmentorSource

_ENCODER = 'text_encoder.transformer.'
_POOLER = f'{_ENCODER}pooler.'  # it is not read
SPECIAL = ('[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]')
_REMEDY = 'Give the vocab.txt of distilbert-base-uncased (--weights tokenizer=FILE, or model.clip.tokenizer).'
_LETTERS = [*string.ascii_lowercase, *string.digits, *string.punctuation]
# Words of single letters, for random weights only.
LETTERS = [*SPECIAL, *_LETTERS, *(f'##{letter}' for letter in _LETTERS)]


def rename_text(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The BERT of an official state dict under the names of `build_text`."""
    return {
        f'text_model.{name.removeprefix(_ENCODER)}': value
        for name, value in state.items()
        if name.startswith(_ENCODER) and not name.startswith(_POOLER)
    }


def build_text(bert: Mapping[str, Any], hidden: int, out_dim: int) -> nn.Module:
    """`text_model`, a BERT without its pooler, and `text_projection`.

    Args:
        bert: Settings of a `BertConfig` where they are not those of BERT-base.
        hidden: Channels inside the projector.
        out_dim: Channels of the joint space.
    """
    from transformers import BertConfig, BertModel

    config = BertConfig(**bert)
    config._attn_implementation = 'eager'
    network = nn.Module()
    network.text_model = BertModel(config, add_pooling_layer=False)
    network.text_projection = build_projection(config.hidden_size, hidden, out_dim)
    return network


class OVSegmentorText(NetworkTextEncoder):
    """Prompts as words of BERT; their vector is the projected first row.

    Args:
        source: Where the network comes from.
    """

    source: OVSegmentorSource

    @cached_property
    def tokenizer(self) -> Any:
        """The WordPiece tokenizer of transformers, which lowers the case.

        Raises:
            MissingFileError: Its words are not there, and cannot be fetched.
            BadFileError: The file holds something else.
        """
        from transformers import BertTokenizer

        words, file = LETTERS, self.source.words
        if file is not None:
            path = file.fetch()
            try:
                words = path.read_text(encoding='utf-8').splitlines()
            except (OSError, UnicodeDecodeError) as error:
                raise BadFileError(f'{path} cannot be read as a list of words ({error}). {_REMEDY}') from error
            if missing := [word for word in SPECIAL[:4] if word not in words]:
                raise BadFileError(f'{path} is no vocabulary of BERT: it has no line {missing[0]}. {_REMEDY}')
        with with_transformers('The tokenizer of OVSegmentor'):
            return BertTokenizer(vocab={word: number for number, word in enumerate(words)}, do_lower_case=True)

    def embed(self, network: Any, prompts: Sequence[str]) -> Tensor:
        """(prompts, D); each batch is padded to its longest prompt.

        Raises:
            ConfigError: A prompt is too long, or the tokenizer has words that the network does not know.
        """
        device, config = network.text_projection[0].weight.device, network.text_model.config
        rows = self.tokenizer(list(prompts), add_special_tokens=True)['input_ids']
        for prompt, row in zip(prompts, rows, strict=True):
            if len(row) > config.max_position_embeddings:
                raise ConfigError(
                    f"The prompt '{prompt}' has {len(row)} tokens, but OVSegmentor reads "
                    f'{config.max_position_embeddings}. Shorten the phrase in it.'
                )
            if max(row) >= config.vocab_size:
                raise ConfigError(
                    f'model.clip.tokenizer knows {len(self.tokenizer)} words, but the text network '
                    f'{config.vocab_size}. Give the tokenizer of the weights, distilbert-base-uncased.'
                )
        vectors = []
        for first in range(0, len(rows), 256):
            batch = [torch.tensor(row) for row in rows[first : first + 256]]
            ids = nn.utils.rnn.pad_sequence(batch, batch_first=True)
            mask = nn.utils.rnn.pad_sequence([torch.ones_like(row) for row in batch], batch_first=True)
            vectors.append(project_words(network, ids.to(device), mask.to(device)))
        return torch.cat(vectors)

    def identity(self) -> dict[str, Any] | None:
        """With the content of the tokenizer's words."""
        identity, words = super().identity(), self.source.words
        return None if identity is None or words is None else identity | dict(tokenizer=words.identity()['sha256'])


def project_words(network: Any, ids: Tensor, mask: Tensor) -> Tensor:
    """(prompts, D) of token ids (prompts, length), int64, and a mask of the same shape, 0 where there is padding."""
    found = network.text_model(input_ids=ids, attention_mask=mask)
    return network.text_projection(found.last_hidden_state[:, 0])
