"""What single tokens attend to (SCLIP, Figures 2 and 4), in any block and with any attention."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..checks import check_choice
from ..errors import ConfigError
from ..models.image.windows import Place, WindowGrid, cut_window
from ..models.record import Record, Source
from .bound_attention import BoundAttention
from .view import Point, View, nearest_window


@dataclass
class AttentionRow:
    """What one attention shows in one block, for each point.

    Attributes:
        attention: The label of the attention.
        layer: Number of the block, from 1.
        heads: What was made of the heads: 'mean of 12 heads', 'head 3 of 12' or 'one map for all heads'; with the size
            of the grid where it is not that of the tower.
        weights: For each point the row of its token without the class token, (h, w) float32 on the CPU, on the grid of
            the attention.
    """

    attention: str
    layer: int
    heads: str
    weights: list[Tensor]


@dataclass
class AttentionMaps:
    """Attention maps of an image, one for each point and row.

    Attributes:
        points: (x, y) in pixels of the image.
        views: For each point what went through the network at once.
        rows: In the order attention, layer, head.
    """

    points: list[Point]
    views: list[View]
    rows: list[AttentionRow]


@torch.no_grad()
def attention_maps(
    model: nn.Module,
    image: Tensor,
    points: Sequence[Point],
    attentions: Sequence[BoundAttention],
    layers: Sequence[int] = (-1,),
    heads: str | int = 'mean',
    mode: str | None = None,
    size: tuple[int, int] | None = None,
    meta: Mapping[str, Any] | None = None,
) -> AttentionMaps:
    """Rows of the attention maps: what the tokens under some points attend to.

    The blocks run once for each distinct window, and over all windows where an attention must see them. The maps come
    from the attentions' own `weights`, in float32 or the tower's precision, on the grid of each. An attention of
    several passes gets, in every block, the scores that the segmentor finds in the pass before with this attention in
    its decoder.

    Args:
        model: An `SCLIPSegmentor`.
        image: (3, H', W'), as the model's preprocessor gives it.
        points: (x, y) in pixels of the image of `size`, (0, 0) at the upper left.
        attentions: From `bind_attention`.
        layers: Block numbers from 1; negative ones count from the end.
        heads: 'mean', 'all' (a row for each) or a number from 1.
        mode: 'whole' for the whole image at once, 'slide' for the window of the evaluation whose centre is
            nearest to each point; None for the mode of `model.test_cfg`.
        size: (height, width) of the image as loaded; None where the network gets it at that size.
        meta: The `metainfo` of the image's sample, for attentions that read more of it than pixels.

    Raises:
        ConfigError: A point lies outside, or there is no such layer or head.
    """
    tower, settings = model.backbone.tower, model.settings
    tower.check_size(image)
    network = (image.shape[-2], image.shape[-1])
    size = network if size is None else size
    mode = settings.mode if mode is None else mode
    check_choice('mode', mode, ('slide', 'whole'))
    check_points(points, size)
    numbers, chosen = check_layers(tower, layers), check_heads(heads, tower.heads)
    crop, stride = (network, network) if mode == 'whole' else (settings.crop_size, settings.stride)
    grid = WindowGrid.cut(*network, crop, stride, settings.window_multiple)
    places = grid.places(0)
    nearest = [nearest_window(grid.windows, point, size, network) for point in points]
    views = [View.of(size, network, places[window], tower.patch_size) for window in nearest]

    needs = {number - 1 for number in numbers}.union(*(attention.needs(tower) for attention in attentions))
    source = Source(image, dict(ori_shape=size) if meta is None else meta)

    def record(of: Sequence[Place]) -> Record:
        crops = torch.stack([cut_window(image, place) for place in of])
        return model.record(crops, needs, of, [source]).read_by(model.companions)

    every = record(places) if any(attention.all_windows for attention in attentions) else None
    maps: dict[tuple[int, int, str], list[Tensor | None]] = {}
    for window in dict.fromkeys(nearest):
        alone = record([places[window]])
        for index, attention in enumerate(attentions):
            seen, at = (every, window) if attention.all_windows and every is not None else (alone, 0)
            feedback = attention.feedback(model, seen)
            for number in numbers:
                b = attention.block_input(number, seen, feedback)
                weights = attention.weights(b)[at]
                for i in (i for i, own in enumerate(nearest) if own == window):
                    # (heads or 1, h * w), without the class token
                    row = weights[:, b.prefix + views[i].token(points[i], b.grid), b.prefix :].float()
                    for name, value in _heads(row, chosen, tower.heads):
                        if b.grid != views[i].grid:
                            name = f'{name}, {b.grid[1]} x {b.grid[0]} cells'
                        key = (index, number, name)
                        maps.setdefault(key, [None] * len(points))[i] = value.unflatten(0, b.grid).cpu()
    rows = [AttentionRow(attentions[i].label, number, name, row) for (i, number, name), row in maps.items()]
    return AttentionMaps(list(points), views, rows)


def check_points(points: Sequence[Point], size: tuple[int, int]) -> None:
    """Refuse points (x, y) outside an image of `size` (height, width)."""
    height, width = size
    for x, y in points:
        if not (0 <= x < width and 0 <= y < height):
            raise ConfigError(
                f'The point {x},{y} lies outside the image, which is {width} x {height} pixels (width x height): x '
                f'goes from 0 to {width - 1} and y from 0 to {height - 1}.'
            )


def check_layers(tower: nn.Module, layers: Sequence[int]) -> list[int]:
    """Block numbers from 1, each once.

    Raises:
        ConfigError: There is no such block, or none at all.
    """
    if tower.depth == 0:
        raise ConfigError(
            f'{type(tower).__name__} runs as a whole, so it has no blocks whose attention could be shown. Take a '
            'config whose model.clip is a plain Vision Transformer, such as sclip_voc21.'
        )
    if 0 in layers:
        raise ConfigError(
            f'There is no layer 0: layers count from 1 to {tower.depth}, or from -1, the last one, to -{tower.depth}.'
        )
    return list(dict.fromkeys(tower.block_number(layer) for layer in layers))


def check_heads(heads: str | int, count: int) -> list[int] | None:
    """Indices of the heads to be shown one by one, or None for their mean.

    Raises:
        ConfigError: There is no such head.
    """
    if heads == 'mean':
        return None
    if heads == 'all':
        return list(range(count))
    if isinstance(heads, int) and not isinstance(heads, bool) and 1 <= heads <= count:
        return [heads - 1]
    raise ConfigError(f"heads is {heads!r}; it is 'mean', 'all' or a number from 1 to {count}.")


def _heads(row: Tensor, chosen: list[int] | None, count: int) -> list[tuple[str, Tensor]]:
    """What is shown of a token's row (heads or 1, h * w), with its name."""
    if len(row) == 1:
        return [('one map for all heads' if count > 1 else 'one head', row[0])]
    if chosen is None:
        return [(f'mean of {count} heads', row.mean(0))]
    return [(f'head {head + 1} of {count}', row[head]) for head in chosen]
