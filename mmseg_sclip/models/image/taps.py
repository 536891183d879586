"""Products with matrices of interpolation between many places, which are nearly all zero."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

_MANY = 128  # places from which on a dense product costs more
_FEW = 8  # places that a pixel looks at: two in each of four windows


class Taps(NamedTuple):
    """The places that each pixel of an axis looks at.

    Attributes:
        places: (k, pixels), int64.
        weights: (k, pixels); 0 where a pixel looks at fewer places.
    """

    places: Tensor
    weights: Tensor

    @classmethod
    def of(cls, matrix: Tensor) -> Taps | None:
        """Those of a matrix (pixels, places); None where a dense product is as good."""
        if matrix.shape[1] < _MANY or (most := int((matrix != 0).sum(dim=1).max())) > _FEW:
            return None
        places = matrix.abs().topk(max(most, 1), dim=1).indices.T.contiguous()
        return cls(places, matrix.gather(1, places.T).T.contiguous())

    def band(self, first: int, last: int) -> Taps:
        """Those of the pixels from `first` to before `last`."""
        return Taps(self.places[:, first:last], self.weights[:, first:last])

    def read(self, values: Tensor, dim: int) -> Tensor:
        """`values`, whose axis `dim` (0 or -1) has the places, at the pixels."""
        total: Tensor | None = None
        for places, weights in zip(self.places, self.weights, strict=True):
            weights = weights if dim else weights[:, None]
            if total is None:
                total = values.index_select(dim, places)
                if (weights != 1).any():
                    total *= weights
            else:
                total.addcmul_(values.index_select(dim, places), weights.expand_as(total))
        assert total is not None
        return total
