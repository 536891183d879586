"""Painted scenes: warped regions of twelve materials under uneven light, for evaluation with confetti over them.

Everything is a function of a `numpy.random.Generator`, so that one seed sequence always paints the same scene. The
training, the evaluation and the learned projection draw from different purposes.
"""

from typing import NamedTuple

import numpy as np

from .materials import MATERIALS, PAINTERS, Frame, smooth_noise

GENERATOR_VERSION = 2  # raise it when a painted pixel changes: painted folders are kept per version

_LEAST_SHARE = 0.04  # of the pixels, of a region that counts
_TINT, _LIGHT, _NOISE = 0.08, 0.22, (2, 8)  # shares of the colours, and the noise's range of grey values
_CONFETTI_AREA, _CONFETTI_RADIUS, _CONFETTI_COLOURS = 400, (2, 5.5), 3  # pixels for each disc, pixels, number


class Purpose(NamedTuple):
    """What scenes are painted for: a number in their seed, their least number of regions, and whether with confetti."""

    number: int
    least_regions: int
    confetti: bool


PURPOSES = {
    'evaluation': Purpose(0, least_regions=2, confetti=True),
    'training': Purpose(1, least_regions=1, confetti=False),  # of the tiny CLIP, which never sees confetti
    'projection': Purpose(2, least_regions=2, confetti=True),
}


class Scene(NamedTuple):
    """A painted scene: `image` (H, W, 3) uint8 RGB and `label` (H, W) uint8, indices of MATERIALS."""

    image: np.ndarray
    label: np.ndarray


def scene(purpose: str, seed: int, index: int, size: int, max_regions: int) -> Scene:
    """Paint scene `index` of a seed, a square.

    Args:
        purpose: One of PURPOSES; no two share a scene.
        seed: Of the scenes.
        index: Of the scene.
        size: Side in pixels.
        max_regions: The number of regions is drawn from the purpose's least number to this one. Regions differ in
            material.
    """
    number, least, confetti = PURPOSES[purpose]
    rng = np.random.default_rng(np.random.SeedSequence([number, seed, index]))
    y, x = np.mgrid[0:size, 0:size].astype(float)
    label = _draw_regions(rng, y, x, min(least, max_regions), max_regions)
    image = np.empty((size, size, 3))
    for material in np.unique(label):
        mask = label == material
        box = _box(mask)
        texture = PAINTERS[MATERIALS[material]](rng, _frame(rng, y[box], x[box]))
        image[box][mask[box]] = (texture * rng.uniform(1 - _TINT, 1 + _TINT, 3))[mask[box]]
    if confetti:
        _scatter_confetti(rng, image, y, x)
    image *= _light(rng, y, x)[..., None]
    image += rng.uniform(*_NOISE) * rng.standard_normal(image.shape)
    return Scene(np.clip(image, 0, 255).astype(np.uint8), label)


def _draw_regions(rng: np.random.Generator, y: np.ndarray, x: np.ndarray, least: int, most: int) -> np.ndarray:
    """Label map (H, W) of cells with warped borders, of which at least `least` are not too small to be seen."""
    size = len(y)
    while True:
        chosen = rng.permutation(len(MATERIALS))[: rng.integers(least, most + 1)]
        distances = [
            np.hypot(y - row, x - column) + 5 * smooth_noise(rng, (size, size), size / 5)
            for row, column in rng.uniform(0, size, (len(chosen), 2))
        ]
        label = chosen[np.argmin(distances, axis=0)].astype(np.uint8)
        if (np.bincount(label.ravel()) >= _LEAST_SHARE * label.size).sum() >= least:
            return label


def _box(mask: np.ndarray) -> tuple[slice, slice]:
    """Slices around a mask (H, W), in steps of 8 pixels, so that few sizes of noise occur."""
    lines = [np.flatnonzero(mask.any(axis)) for axis in (1, 0)]
    return tuple(slice(at[0] // 8 * 8, -(-(at[-1] + 1) // 8) * 8) for at in lines)


def _frame(rng: np.random.Generator, y: np.ndarray, x: np.ndarray) -> Frame:
    angle, scale = rng.uniform(0, 2 * np.pi), rng.uniform(0.95, 1.5)
    du, dv = rng.uniform(0, 1000, 2)
    cos, sin = np.cos(angle) / scale, np.sin(angle) / scale
    return Frame(x * cos + y * sin + du, y * cos - x * sin + dv)


def _scatter_confetti(rng: np.random.Generator, image: np.ndarray, y: np.ndarray, x: np.ndarray) -> None:
    """Paint discs of a few colours over `image`; no caption names them, and they have the label of what they cover."""
    size = len(image)
    colours = rng.uniform(25, 240, (_CONFETTI_COLOURS, 3))
    for _ in range(rng.poisson(size * size / _CONFETTI_AREA)):
        (row, column), radius = rng.uniform(0, size, 2), rng.uniform(*_CONFETTI_RADIUS)
        box = tuple(slice(max(0, int(at - radius)), int(at + radius) + 2) for at in (row, column))
        disc = np.hypot(y[box] - row, x[box] - column) < radius
        image[box][disc] = colours[rng.integers(len(colours))]


def _light(rng: np.random.Generator, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Brightness (H, W): a slope in some direction, and soft shadows."""
    size = len(y)
    angle = rng.uniform(0, 2 * np.pi)
    slope = ((x - size / 2) * np.cos(angle) + (y - size / 2) * np.sin(angle)) / size
    return np.clip(1 + _LIGHT * (rng.uniform(0, 1.6) * slope + smooth_noise(rng, (size, size), 40)), 0.4, 1.5)
