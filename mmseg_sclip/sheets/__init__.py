"""Figures of several pictures whose pixels stay as they are."""

from .layout import Panel, lay_out
from .sheet import Placed, Sheet, Text

__all__ = ['Panel', 'Placed', 'Sheet', 'Text', 'lay_out']
