"""The figure of attention maps."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
from PIL import Image, ImageDraw

from ..pictures import BLACK, heat_overlay, text_size
from ..pictures.heat import COLOURS
from ..pictures.overlay import mix
from ..sheets import Panel, Sheet, lay_out
from .maps import AttentionMaps
from .view import Point, View

WHITE = (255, 255, 255)
MARK = (255, 0, 255)  # a colour that the heat map does not have
OPACITY = 0.6  # of the colours over the image
_DIM = 0.65  # share of white outside the window
SCALING = (
    "Colours: from 0 (left) to each map's own maximum (right), which stands below the map. The class token's weight "
    'is not shown.'
)


def mark(picture: np.ndarray, point: Point) -> np.ndarray:
    """A picture with a magenta disc in a white and a black ring, centred on a pixel.

    Args:
        picture: (H, W, 3), uint8, RGB.
        point: (x, y).
    """
    radius = max(2, round(min(picture.shape[:2]) / 80))
    ring = max(1, radius // 3)
    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image)
    x, y = point
    for reach, colour in ((radius + 2 * ring, BLACK), (radius + ring, WHITE), (radius, MARK)):
        draw.ellipse((x - reach, y - reach, x + reach, y + reach), fill=colour)
    return np.asarray(image)


def heat_picture(pixels: np.ndarray, values: np.ndarray, point: Point) -> np.ndarray:
    """A map over the image, scaled to its own maximum, with its point.

    Args:
        pixels: (H, W, 3), uint8, RGB.
        values: (H, W), nan outside the window, which becomes pale.
        point: (x, y).
    """
    outside = np.isnan(values)
    inside = np.where(outside, 0, values)
    heat = heat_overlay(pixels, inside, 0, max(float(inside.max()), np.finfo(np.float32).tiny), OPACITY)
    heat[outside] = pale(pixels)[outside]
    return mark(heat, point)


def pale(pixels: np.ndarray) -> np.ndarray:
    """What is outside the window."""
    return mix(pixels, np.full_like(pixels, 255), _DIM)


def attention_figure(pixels: np.ndarray, maps: AttentionMaps, title: str = '', max_side: int | None = None) -> Sheet:
    """A row for each strategy, layer and head, a column for each point; above them the image with the points.

    Args:
        pixels: (H, W, 3), uint8, RGB, of the image that the points belong to.
        maps: From `attention_maps`.
        title: Above the figure; what went through the network is added to it.
        max_side: Larger pictures are made smaller until their longer side has this many pixels.
    """
    source = []
    for point, view in zip(maps.points, maps.views, strict=True):
        shown = pixels
        if not view.is_whole:
            shown = np.where(view.inside().numpy()[..., None], pixels, pale(pixels))
        source.append(Panel(_shrink(mark(shown, point), max_side)))
    rows, labels = [source], ['image']
    for row in maps.rows:
        panels = []
        for point, view, weights in zip(maps.points, maps.views, row.weights, strict=True):
            picture = heat_picture(pixels, view.enlarge(weights).numpy(), point)
            panels.append(Panel(_shrink(picture, max_side), f'max {float(weights.max()):.3g}'))
        rows.append(panels)
        labels.append(f'{row.strategy}\nlayer {row.layer}, {row.heads}')
    return lay_out(
        rows,
        labels,
        [f'point {x},{y}' for x, y in maps.points],
        title=' '.join(part for part in (title, describe_views(maps.views)) if part),
        notes=[SCALING, _bar()],
    )


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


def _shrink(picture: np.ndarray, max_side: int | None) -> np.ndarray:
    if max_side is None or max(picture.shape[:2]) <= max_side:
        return picture
    image = Image.fromarray(picture)
    image.thumbnail((max_side, max_side), Image.Resampling.BOX)
    return np.asarray(image)


def _bar() -> np.ndarray:
    """(height, 256, 3): the colours from 0 to the maximum."""
    colours = matplotlib.colormaps[COLOURS](np.linspace(0, 1, 256), bytes=True)[None, :, :3]
    return np.repeat(colours, text_size('', 14)[1], axis=0)
