"""The figure of attention maps."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from .attention import AttentionMaps
from .figure import Panel, draw
from .pixels import heat, mark, pale
from .view import View

_SCALE = "weight as a share of each map's own maximum, which stands above it; the class token's is not shown"
_ASPECT = 1.4  # width to height that figures come near


def attention_figure(pixels: np.ndarray, maps: AttentionMaps, title: str = '', max_side: int | None = None) -> Figure:
    """The image with each point, and next to it or below it one map per attention, layer and head.

    Args:
        pixels: (H, W, 3), uint8, RGB, of the image that the points belong to.
        maps: From `attention_maps`.
        title: Above the figure; what went through the network is added to it.
        max_side: Larger pictures are made smaller until their longer side has this many pixels.
    """
    groups = [[]]  # the points, side by side
    for point, view in zip(maps.points, maps.views, strict=True):
        shown = pixels if view.is_whole else np.where(view.inside().numpy()[..., None], pixels, pale(pixels))
        groups[0].append(Panel(mark(shown, point), f'point {point[0]},{point[1]}'))
    for row in maps.rows:
        groups.append([])
        for point, view, weights in zip(maps.points, maps.views, row.weights, strict=True):
            highest = float(weights.max())
            picture = mark(heat(pixels, view.enlarge(weights).numpy(), highest), point)
            groups[-1].append(Panel(picture, f'{row.attention}\nlayer {row.layer}, {row.heads}\nmax {highest:.3g}'))
    title = ' '.join(part for part in (title, describe_views(maps.views)) if part)
    return draw(_arrange(groups, pixels.shape[1] / pixels.shape[0]), title, scale=_SCALE, max_side=max_side)


def describe_views(views: Sequence[View]) -> str:
    """What went through the network at once, in words."""
    first = views[0]
    height, width = first.network
    if first.is_whole:
        grid = f'{first.grid[1]} x {first.grid[0]} patches'
        return f'Whole image at once: {width} x {height} pixels in the network, {grid}.'
    top, bottom, left, right = first.window
    return (
        f'One window of {right - left} x {bottom - top} pixels, the one whose centre is nearest to the point, out of '
        f'{width} x {height} in the network; the rest is pale.'
    )


def _arrange(groups: list[list[Panel]], aspect: float) -> list[list[Panel | None]]:
    """Groups of panels in rows, so many per row that the figure is neither a strip nor full of holes."""
    points = len(groups[0])

    def cost(many: int) -> float:
        rows = -(-len(groups) // many)
        holes = 1 - len(groups) / (rows * many)
        return abs(math.log(points * many * aspect / rows / _ASPECT)) + 3 * holes

    many = min(range(1, len(groups) + 1), key=cost)
    cells = [*groups, *[[None] * points] * (-len(groups) % many)]
    return [sum(cells[i : i + many], []) for i in range(0, len(cells), many)]
