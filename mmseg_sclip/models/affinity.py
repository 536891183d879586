"""The seam of the affinities: how the patches of a window relate to each other."""

from __future__ import annotations

from torch import Tensor

from .parts import Part
from .record import Record


class Affinity(Part):
    """A relation of all patches of a window with each other, computed from the record.

    A head or a refinement names one in its config, and reads it with `record.once(affinity)`.
    """

    def forward(self, record: Record) -> Tensor:
        """The affinity of the patches (B, n, n), of the windows of a record."""
        raise NotImplementedError(f'{type(self).__name__} must define forward(record).')
