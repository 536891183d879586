"""The seam of the companions, and those that several methods share: second networks that look at the same windows."""

from .base import Companion, Features
from .filter_bank import FilterBank

__all__ = ['Companion', 'Features', 'FilterBank']
