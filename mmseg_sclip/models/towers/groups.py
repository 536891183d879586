"""The seam of image towers that group patches."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .closed import ClosedTower

if TYPE_CHECKING:
    from ..record import Record
    from ..tokens import GroupTokens


class GroupTower(ClosedTower):
    """A network that gathers patches in groups, with one vector for each; a `GroupDecoder` hands them to the head."""

    decoder = "dict(type='GroupDecoder')"

    def forward(self, record: Record) -> GroupTokens:
        """The groups of the windows of a record, with projected vectors."""
        raise NotImplementedError(f'{type(self).__name__} must define forward(record).')
