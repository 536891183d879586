"""GroupViT's text encoder: a transformer like CLIP's, and a projector of two layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from ....compat import open_clip
from ...clip.text_encoder import tokenize
from ...towers.grouping import build_projection, renamed, split_qkv
from ...towers.networks import NetworkTextEncoder

CONTEXT, VOCABULARY = 77, 49408  # of CLIP's tokenizer

# Official names of the text encoder, and transformers'.
_NAMES = (
    (r'^text_encoder\.positional_embedding$', 'text_model.embeddings.position_embedding.weight'),
    (r'^text_encoder\.token_embedding\.', 'text_model.embeddings.token_embedding.'),
    (r'^text_encoder\.ln_final\.', 'text_model.final_layer_norm.'),
    (r'^text_encoder\.transformer\.resblocks\.', 'text_model.encoder.layers.'),
    (r'\.ln_', '.layer_norm'),
    (r'\.attn\.', '.self_attn.'),
    (r'\.mlp\.c_fc\.', '.mlp.fc1.'),
    (r'\.mlp\.c_proj\.', '.mlp.fc2.'),
)


def rename_text(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The text encoder of an official state dict under transformers' names."""
    result: dict[str, Tensor] = {}
    for name, value in state.items():
        if name.startswith('text_encoder.'):
            new = renamed(name, _NAMES)
            result.update(split_qkv(new, value, 'in_proj_') if '.in_proj_' in new else {new: value})
    return result


def build_text(width: int, heads: int, layers: int, hidden: int, out_dim: int) -> nn.Module:
    """The text side of transformers' GroupViT: `text_model` and `text_projection`."""
    from transformers import GroupViTTextConfig
    from transformers.models.groupvit.modeling_groupvit import GroupViTTextModel

    config = GroupViTTextConfig(
        vocab_size=VOCABULARY,
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        max_position_embeddings=CONTEXT,
        hidden_act='quick_gelu',
        bos_token_id=49406,
        eos_token_id=49407,
    )
    network = nn.Module()
    network.text_model = GroupViTTextModel(config).text_model
    network.text_projection = build_projection(width, hidden, out_dim)
    return network


class GroupViTText(NetworkTextEncoder):
    """Prompts as CLIP's tokens; their vector is the projected row of the end token."""

    @cached_property
    def _tokenizer(self) -> Any:
        return open_clip.SimpleTokenizer(context_length=CONTEXT)

    def embed(self, network: Any, prompts: Sequence[str]) -> Tensor:
        """(prompts, D); a prompt that is too long raises a ConfigError."""
        tokens = tokenize(self._tokenizer, prompts, CONTEXT).to(network.text_projection[0].weight.device)
        return torch.cat(
            [network.text_projection(network.text_model(input_ids=batch).pooler_output) for batch in tokens.split(256)]
        )
