"""Rules that fit a learned positional table to a grid of another size."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

Grid = tuple[int, int]


def _resize(table: Tensor, native: Grid, grid: Grid, **how) -> Tensor:
    """Interpolate the patch rows of `table` (1 + n, width) in float32; the class row stays as it is."""
    patches = table[1:].float().unflatten(0, tuple(native)).permute(2, 0, 1)[None]  # (1, width, g, g)
    patches = F.interpolate(patches, align_corners=False, **how)[0].flatten(1).T  # (h * w, width)
    return torch.cat([table[:1].float(), patches])


def by_scale(table: Tensor, native: Grid, grid: Grid) -> Tensor:
    """SCLIP's rule: bicubic with the scale factors (side + 0.1) / native side.

    The factors, not the sides, set the sampling points, so this differs from `by_size`. A grid with
    the native number of patches takes the table as it is, even where its shape is another one.

    Args:
        table: (1 + n, width), the class token's row first.
        native: The grid (g, g) that the table was learned for.
        grid: The grid (h, w) wanted.

    Returns:
        (1 + h * w, width).
    """
    if grid[0] * grid[1] == native[0] * native[1]:
        return table
    return by_scale_but_native(table, native, grid)


def by_scale_but_native(table: Tensor, native: Grid, grid: Grid) -> Tensor:
    """DINO's rule: as `by_scale`, but only the native grid itself takes the table as it is."""
    if tuple(grid) == tuple(native):
        return table
    factors = ((grid[0] + 0.1) / native[0], (grid[1] + 0.1) / native[1])
    return _resize(table, native, grid, mode='bicubic', scale_factor=factors)


def by_size(table: Tensor, native: Grid, grid: Grid, mode: str, antialias: bool) -> Tensor:
    """Interpolate to the sides of the grid; arguments and result as in `by_scale`."""
    if tuple(grid) == tuple(native):
        return table
    return _resize(table, native, grid, mode=mode, size=tuple(grid), antialias=antialias)


POSITION_RULES: dict[str, Callable[[Tensor, Grid, Grid], Tensor]] = {
    'scale': by_scale,
    'size': partial(by_size, mode='bicubic', antialias=False),
    'size_antialias': partial(by_size, mode='bicubic', antialias=True),
    'bilinear': partial(by_size, mode='bilinear', antialias=False),
}
