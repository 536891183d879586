"""A head whose scores are maps of the queries, not cosines."""

from __future__ import annotations

import torch
from torch import Tensor

from ...errors import ConfigError
from ..tokens import Tokens
from .text_similarity import TextSimilarityHead


class MapHead(TextSimilarityHead):
    """The base of heads that make maps of the foreground queries, not negative, which are class scores already.

    The phrases of the background class compete with the others inside the head and have no map of their own: theirs is
    0. Every query is a map for itself, also where two classes have a phrase in common.
    """

    gives_class_scores = True

    @property
    def phrase_of_query(self) -> None:
        """None: maps of equal phrases may differ."""

    def score_bank(self, device: torch.device) -> Tensor:
        """(Q, D): the text of each query."""
        return super().score_bank(device)[self._phrase_of_query]

    @property
    def foreground(self) -> Tensor:
        """(Q,), bool: the queries that do not belong to the background class.

        Raises:
            ConfigError: There is none.
        """
        classes = torch.arange(self.num_classes).repeat_interleave(torch.tensor(self.vocabulary.sizes))
        foreground = classes != (-1 if self.background_index is None else self.background_index)
        if not foreground.any():
            raise ConfigError(f'The vocabulary {self.vocabulary.name} has no class but the background. Add others.')
        return foreground

    def query_cosines(self, tokens: Tokens) -> Tensor:
        """(B, Q, h, w), float32."""
        return self.cosines(tokens)[:, self._phrase_of_query]

    def between_passes(self, tokens: Tokens) -> Tensor:
        """Cosines (B, Q, h, w), which decoders of several passes are made for."""
        return self.query_cosines(tokens)
