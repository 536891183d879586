"""ResCLIP's second part: patches that the first pass gave the same label attend to each other more."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

from mmseg.registry import MODELS
from torch import Tensor
from torch.nn import functional as F

from ....checks import build_strategy
from ....errors import ConfigError
from ....rules import AtLeast, Between, NotEmpty, Positive
from ...attention.base import Attention
from ...record import BlockInput
from .label_grids import blur_rows, patch_labels, refined_labels, same_label

if TYPE_CHECKING:
    from ...towers.image import ImageTower


@MODELS.register_module()
class SemanticFeedback(Attention):
    """softmax of gain ((1 - share) t + share S) for each term t of another attention, its prior added last.

    This is the semantic feedback refinement, SFR, of ResCLIP (arXiv 2411.15851, section 3.3). The first pass is the
    other attention alone. Its scores become a grid of labels: enlarged to the window, refined by PAMR, the best query
    of each pixel, query 0 for unsure ones, and the most frequent one of each patch; synonyms of a class are different
    labels. S says which patches share a label: see `same_label`; rows are blurred along the index of the patches and
    divided by their sums, and all is divided by the largest entry.

    S and share * S are rounded to float16, which the official code does on every device.

    Args:
        base: Config of the other attention.
        share: Of S, in 0..1: the paper's lambda_sfr.
        gain: Multiplies the logits: the paper's tau_sfr.
        threshold: Pixels whose highest probability is below it get the label 0.
        logit_scale: Multiplies the refined cosines before the softmax over queries.
        steps: Of PAMR; 0 for none.
        dilations: Of PAMR, in pixels.
        decay: Whether pairs count less where another label lies between them.
        blur: Standard deviation of the blur, in patches; None for none.
    """

    def __init__(
        self,
        base: Mapping,
        share: Annotated[float, Between(0, 1)] = 0.7,
        gain: float = 2.1,
        threshold: float = 0.25,
        logit_scale: float = 40,
        steps: Annotated[int, AtLeast(0)] = 10,
        dilations: Annotated[Sequence[Annotated[int, AtLeast(1)]], NotEmpty] = (8, 16),
        decay: bool = True,
        blur: Annotated[float, Positive] | None = 5.0,
    ) -> None:
        super().__init__()
        self.base = build_strategy('SemanticFeedback.base', base, Attention)
        self.share = share
        self.gain = gain
        self.threshold = threshold
        self.logit_scale = logit_scale
        self.steps = steps
        self.dilations = tuple(dilations)
        self.decay = decay
        self.blur = blur

    def bind(self, tower: ImageTower) -> None:
        """Ask for one pass before the last.

        Raises:
            ConfigError: The base wants several passes itself.
        """
        super().bind(tower)
        if self.base.passes > 1:
            raise ConfigError(
                f'SemanticFeedback.base is a {type(self.base).__name__} of {self.base.passes} passes; it must be an '
                'attention of one pass.'
            )
        self.passes = 2
        self.patch_size = tower.patch_size

    def weights(self, b: BlockInput, mix: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """The map (B, heads or 1, N, N); `mix` acts on what is mixed here."""
        if b.feedback is None:
            return self.base.weights(b, mix)
        # Rounded twice, the scalar first in float32: so does a product of a number and a float16 tensor.
        bonus = (self.share * self.similarity(b).half()).float()[:, None]  # (B, 1, N, N)

        def blend(logits: Tensor) -> Tensor:
            mixed = self.gain * ((1 - self.share) * logits + bonus)
            return mixed if mix is None else mix(mixed)

        return self.base.weights(b, blend)

    def attend(self, b: BlockInput) -> Tensor:
        """The same as `weights(b) @ b.v`."""
        return self.base.attend(b) if b.feedback is None else super().attend(b)

    def similarity(self, b: BlockInput) -> Tensor:
        """S (B, N, N), float32, at most 1; 0 for the class token."""
        matrix = self.matrix(b)
        matrix = matrix / matrix.amax(dim=(1, 2), keepdim=True)
        return F.pad(matrix, (b.prefix, 0, b.prefix, 0))

    def matrix(self, b: BlockInput) -> Tensor:
        """S before the division by the largest entry, for patches only (B, n, n)."""
        matrix = same_label(self.label_grid(b), self.decay)
        if self.blur is not None:
            matrix = blur_rows(matrix, self.blur)
        return matrix / (matrix.sum(dim=-1, keepdim=True) + 1e-8)

    def label_grid(self, b: BlockInput) -> Tensor:
        """The query that each patch is found to show (B, h, w), int64, from the scores of the pass before."""
        assert b.feedback is not None
        scores = b.feedback.scores
        labels = refined_labels(scores, b.record.images, self.logit_scale, self.threshold, self.steps, self.dilations)
        return patch_labels(labels, b.grid, self.patch_size, scores.shape[1])
