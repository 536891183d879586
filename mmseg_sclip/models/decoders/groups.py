"""The decoder of networks that group patches."""

from __future__ import annotations

from dataclasses import replace

from mmseg.registry import MODELS

from ..record import Feedback, Record
from ..tokens import GroupTokens
from ..towers.groups import GroupTower
from .base import Decoder


@MODELS.register_module()
class GroupDecoder(Decoder):
    """Hands on what a `GroupTower` says of its groups; nothing is rebuilt.

    Its tokens have the groups for a `GroupPaintingHead`. For heads that read patches, a patch has the vectors of its
    groups in the shares in which it belongs to them, and the class token is the vector of the window.
    """

    decodes = GroupTower
    gives = GroupTokens
    needs = frozenset({0})

    def forward(self, record: Record, feedback: Feedback | None = None) -> GroupTokens:
        """The groups of the windows, computed once for all models that share a record."""
        return replace(record.once(record.tower))
