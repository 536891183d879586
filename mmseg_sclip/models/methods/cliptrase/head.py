"""CLIPtrase's scores where an image shows few classes: patches and the class token must agree (ECCV 2024)."""

from __future__ import annotations

from mmseg.registry import MODELS
from torch import Tensor

from ....errors import ConfigError
from ...heads.text_similarity import TextSimilarityHead
from ...streams import Tokens


@MODELS.register_module()
class ClassTokenHead(TextSimilarityHead):
    """The cosine of each patch with a phrase, times the cosine of the class token with it.

    CLIPtrase does so on VOC20 only. Arguments are those of `TextSimilarityHead`.
    """

    def forward(self, features: Tokens | tuple[Tensor] | Tensor) -> Tensor:
        """Scores of every query.

        Args:
            features: Tokens with a class token.

        Returns:
            (B, Q, h, w), float32.

        Raises:
            ConfigError: The decoder gives no class token.
        """
        if not isinstance(features, Tokens) or features.cls is None:
            raise ConfigError(
                'ClassTokenHead needs the class token, which this decoder does not give out. Use another decoder, such '
                'as LastBlock, or a TextSimilarityHead.'
            )
        return super().forward(features) * super().forward(features.cls[:, :, None, None])
