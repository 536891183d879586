"""Painted scenes: warped regions, each filled with one of twelve materials.

Everything is a function of a `numpy.random.Generator`, so that one seed sequence always paints the
same scene. The training, the evaluation and the learned projection draw from different purposes.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np

GENERATOR_VERSION = 1  # raise it when a painted pixel changes: painted folders are kept per version
PURPOSES = dict(evaluation=0, training=1, projection=2)


class Frame(NamedTuple):
    """The rotated and scaled pixel coordinates `u`, `v` (H, W) in which one pattern is painted."""

    u: np.ndarray
    v: np.ndarray


class Scene(NamedTuple):
    """A painted scene: `image` (H, W, 3) uint8 RGB and `label` (H, W) uint8, indices of MATERIALS."""

    image: np.ndarray
    label: np.ndarray


@lru_cache(maxsize=256)
def _interpolation(size: int, cells: int) -> np.ndarray:
    """(size, cells + 1) matrix that interpolates a row of `cells + 1` values smoothly to `size` pixels."""
    at = np.arange(size) / size * cells
    left = at.astype(int)
    t = at - left
    t = t * t * (3 - 2 * t)
    matrix = np.zeros((size, cells + 1))
    matrix[np.arange(size), left] = 1 - t
    matrix[np.arange(size), left + 1] += t
    return matrix


def smooth_noise(rng: np.random.Generator, shape: tuple[int, int], cell: float) -> np.ndarray:
    """Normal noise on a grid of `cell` pixels, interpolated smoothly to `shape` (H, W)."""
    cells = [max(1, round(side / cell)) for side in shape]
    grid = rng.standard_normal((cells[0] + 1, cells[1] + 1))
    return _interpolation(shape[0], cells[0]) @ grid @ _interpolation(shape[1], cells[1]).T


def _mix(low: tuple, high: tuple, amount: np.ndarray) -> np.ndarray:
    """Blend two colours by `amount` (H, W), clipped to [0, 1]; returns (H, W, 3)."""
    amount = np.clip(amount, 0, 1)[..., None]
    return np.asarray(low, float) * (1 - amount) + np.asarray(high, float) * amount


def _grass(rng, f):
    return _mix(
        (40, 85, 30),
        (125, 180, 80),
        0.5 + 0.25 * rng.standard_normal(f.u.shape) + 0.3 * smooth_noise(rng, f.u.shape, 3),
    )


def _water(rng, f):
    ripple = np.sin(f.v * 1.6 + 1.8 * smooth_noise(rng, f.u.shape, 11))
    return _mix((35, 85, 140), (110, 170, 205), 0.45 + 0.4 * ripple)


def _sand(rng, f):
    return _mix(
        (185, 155, 105),
        (232, 208, 160),
        0.5 + 0.18 * rng.standard_normal(f.u.shape) + 0.22 * smooth_noise(rng, f.u.shape, 14),
    )


def _brick(rng, f):
    row = np.floor(f.v / 9)
    u = f.u / 18 + 0.5 * (row % 2)
    mortar = (f.v / 9 - row < 0.2) | (u - np.floor(u) < 0.12)
    return _mix((150, 70, 50), (205, 195, 185), mortar + 0.1 * smooth_noise(rng, f.u.shape, 4))


def _wood(rng, f):
    ring = np.sin(f.u * 1.3 + 2.2 * smooth_noise(rng, f.u.shape, 16))
    return _mix((95, 60, 30), (175, 125, 75), 0.5 + 0.4 * ring + 0.08 * rng.standard_normal(f.u.shape))


def _stone(rng, f):
    return _mix(
        (70, 70, 76),
        (165, 165, 170),
        0.5 + 0.3 * smooth_noise(rng, f.u.shape, 5) + 0.2 * smooth_noise(rng, f.u.shape, 2),
    )


def _snow(rng, f):
    return _mix((205, 215, 232), (252, 252, 255), 0.7 + 0.25 * smooth_noise(rng, f.u.shape, 13))


def _lava(rng, f):
    vein = 1 - 3.0 * np.abs(smooth_noise(rng, f.u.shape, 9))
    return _mix((50, 15, 12), (250, 130, 20), vein)


def _stripes(rng, f):
    return _mix((245, 205, 40), (30, 30, 40), (f.u / 9) % 1 < 0.5)


def _checkerboard(rng, f):
    return _mix((240, 240, 235), (25, 25, 30), (np.floor(f.u / 6) + np.floor(f.v / 6)) % 2)


def _polka_dots(rng, f):
    distance = np.hypot(f.u % 11 - 5.5, f.v % 11 - 5.5)
    return _mix((200, 50, 130), (250, 245, 250), distance < 3.4)


def _sky(rng, f):
    return _mix((95, 155, 230), (235, 240, 250), 0.3 + 0.35 * smooth_noise(rng, f.u.shape, 20))


_PAINTERS: dict[str, Callable[[np.random.Generator, Frame], np.ndarray]] = {
    'grass': _grass,
    'water': _water,
    'sand': _sand,
    'brick': _brick,
    'wood': _wood,
    'stone': _stone,
    'snow': _snow,
    'lava': _lava,
    'stripes': _stripes,
    'checkerboard': _checkerboard,
    'polka dots': _polka_dots,
    'sky': _sky,
}
MATERIALS = tuple(_PAINTERS)


def _frame(rng: np.random.Generator, y: np.ndarray, x: np.ndarray) -> Frame:
    angle, scale = rng.uniform(0, 2 * np.pi), rng.uniform(0.8, 1.25)
    du, dv = rng.uniform(0, 1000, 2)
    cos, sin = np.cos(angle) / scale, np.sin(angle) / scale
    return Frame(x * cos + y * sin + du, y * cos - x * sin + dv)


def paint_scene(rng: np.random.Generator, size: int, max_regions: int) -> Scene:
    """Paint one square scene.

    Args:
        rng: The only source of randomness.
        size: Side in pixels.
        max_regions: The number of regions is drawn from 1 to this; regions differ in material.
    """
    chosen = rng.permutation(len(MATERIALS))[: rng.integers(1, max_regions + 1)]
    y, x = np.mgrid[0:size, 0:size].astype(float)
    distance = [
        np.hypot(y - cy, x - cx) + 5 * smooth_noise(rng, (size, size), size / 5)
        for cy, cx in rng.uniform(0, size, (len(chosen), 2))
    ]
    region = np.argmin(distance, axis=0)
    image = np.empty((size, size, 3))
    for i, material in enumerate(chosen):
        texture = _PAINTERS[MATERIALS[material]](rng, _frame(rng, y, x)) * rng.uniform(0.82, 1.18)
        image[region == i] = texture[region == i]
    image += rng.uniform(3, 8) * rng.standard_normal(image.shape)
    return Scene(np.clip(image, 0, 255).astype(np.uint8), chosen[region].astype(np.uint8))


def scene(purpose: str, seed: int, index: int, size: int, max_regions: int) -> Scene:
    """Paint scene `index` of a purpose ('evaluation', 'training' or 'projection') and seed."""
    sequence = np.random.SeedSequence([PURPOSES[purpose], seed, index])
    return paint_scene(np.random.default_rng(sequence), size, max_regions)
