"""What every part of a model says of itself: an attention, a decoder, a head, a refinement."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from .towers.image import ImageTower


class Part(nn.Module):
    """A part that reads the record of the image tower, and says which entries of it.

    What a part wants may stand in its class, or be set in `__init__` or in `bind`. It includes what the parts inside
    it want, so that a part which wraps another one need not ask.

    Attributes:
        needs: Block outputs that it reads: 0 is the embedding, l the output of block l, and negative numbers count
            from the end until `bind` has run.
        companions: Second networks that it reads, by their names in `model.companions`.
        passes: How often the decoder runs over one record. From the second pass on, it is told what the one before
            has computed.
        all_windows: Whether its record must have all windows of an image, as that of a `Stitch` has.
    """

    needs: frozenset[int] = frozenset()
    companions: frozenset[str] = frozenset()
    passes: int = 1
    all_windows: bool = False

    def bind(self, tower: ImageTower) -> None:
        """Learn the shape of the tower, once, when the model is built; parameters are made here.

        This binds the parts inside and unites what they want with what this one wants, so a class that overrides it
        calls it first.

        Raises:
            ConfigError: The tower has no such block.
        """
        needs = tower.block_numbers(self.needs)
        for part in inner_parts(self):
            part.bind(tower)
            needs |= tower.block_numbers(part.needs)
            self.companions = frozenset(self.companions) | part.companions
            self.passes = max(self.passes, part.passes)
            self.all_windows = self.all_windows or part.all_windows
        self.needs = needs


def inner_parts(module: nn.Module) -> Iterator[Part]:
    """The outermost parts inside a module; those inside them are their own affair."""
    for child in module.children():
        if isinstance(child, Part):
            yield child
        else:
            yield from inner_parts(child)
