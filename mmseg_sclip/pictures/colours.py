"""Colours that can be told apart."""

from functools import cache

import cv2
import numpy as np

Colour = tuple[int, int, int]

BLACK: Colour = (0, 0, 0)
MOST_COLOURS = 256  # a palette of a PNG has no more
_STEPS = 12  # levels of each channel among which colours are chosen
_LEAST_CHROMA = 30  # greys look like the photograph below an overlay


def distinct_colours(count: int, background: bool = False) -> list[Colour]:
    """Well separated RGB colours, always the same: a longer list begins with the shorter one.

    Each next colour is the one farthest from all before it, from black and from white, in CIELAB.

    Args:
        count: Number of colours, at most 256.
        background: The first is black, and the others are those of `count - 1`.

    Raises:
        ValueError: More are asked for than a palette holds.
    """
    if not 0 <= count <= MOST_COLOURS:
        raise ValueError(f'{count} colours were asked for; there are 0 to {MOST_COLOURS}, as in the palette of a PNG.')
    chosen = list(_ordered()[: count - background if count else 0])
    return [BLACK, *chosen] if background and count else chosen


@cache
def _ordered() -> tuple[Colour, ...]:
    levels = np.linspace(0, 255, _STEPS).round()
    candidates = np.stack(np.meshgrid(levels, levels, levels, indexing='ij'), axis=-1).reshape(-1, 3)
    lab = _to_lab(candidates)
    vivid = np.hypot(lab[:, 1], lab[:, 2]) >= _LEAST_CHROMA
    candidates, lab = candidates[vivid], lab[vivid]
    taken = _to_lab(np.array([[0, 0, 0], [255, 255, 255]]))
    distance = np.linalg.norm(lab[:, None] - taken, axis=-1).min(axis=1)  # (candidates,)
    chosen = []
    for _ in range(MOST_COLOURS):
        best = int(distance.argmax())
        chosen.append(tuple(int(value) for value in candidates[best]))
        distance = np.minimum(distance, np.linalg.norm(lab - lab[best], axis=-1))
    return tuple(chosen)


def _to_lab(rgb: np.ndarray) -> np.ndarray:
    """CIELAB of (N, 3) RGB in 0..255."""
    return cv2.cvtColor((rgb[None] / 255).astype(np.float32), cv2.COLOR_RGB2LAB)[0].astype(float)
