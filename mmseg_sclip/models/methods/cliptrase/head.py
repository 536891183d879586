"""CLIPtrase's scores where an image shows few classes: patches and the class token must agree (ECCV 2024)."""

from __future__ import annotations

from mmseg.registry import MODELS
from torch import Tensor

from ...heads.text_similarity import TextSimilarityHead
from ...tokens import Tokens


@MODELS.register_module()
class ClassTokenHead(TextSimilarityHead):
    """The cosine of each patch with a phrase, times the cosine of the class token with it.

    CLIPtrase does so on VOC20 only. Arguments are those of `TextSimilarityHead`.
    """

    needs_class_token = True

    def forward(self, features: Tokens) -> Tensor:
        """Scores of every query.

        Args:
            features: Tokens with a class token.

        Returns:
            (B, Q, h, w), float32.
        """
        assert features.cls is not None  # `needs_class_token`
        return super().forward(features) * super().forward(features.cls[:, :, None, None])
