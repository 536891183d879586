"""The twelve materials of the painted scenes: each is a pattern of several colours, with parts that differ."""

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np


class Frame(NamedTuple):
    """The rotated, scaled and shifted pixel coordinates `u`, `v` (H, W) in which one pattern is painted."""

    u: np.ndarray
    v: np.ndarray


Painter = Callable[[np.random.Generator, Frame], np.ndarray]


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


def _mix(low: tuple | np.ndarray, high: tuple, amount: np.ndarray) -> np.ndarray:
    """Blend two colours, or pixels with a colour, by `amount` (H, W), clipped to [0, 1]; returns (H, W, 3)."""
    amount = np.clip(amount, 0, 1)[..., None]
    return np.asarray(low, float) * (1 - amount) + np.asarray(high, float) * amount


def _number(i: np.ndarray, j: np.ndarray, salt: float) -> np.ndarray:
    """A number from 0 to 1 for each cell (i, j), which looks random."""
    x = np.sin(i * 127.1 + j * 311.7 + salt) * 43758.5453
    return x - np.floor(x)


def _pebbles(f: Frame, size: float, salt: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distances (H, W) to the nearest and the second centre of jittered cells, and a number of the nearest cell."""
    u, v = f.u / size, f.v / size
    nearest = np.full(u.shape, np.inf)
    second, number = nearest.copy(), np.zeros(u.shape)
    for i in (-1, 0, 1):
        for j in (-1, 0, 1):
            a, b = np.floor(u) + i, np.floor(v) + j
            centre = a + 0.2 + 0.6 * _number(a, b, salt), b + 0.2 + 0.6 * _number(a, b, salt + 5)
            distance = np.hypot(centre[0] - u, centre[1] - v)
            closer = distance < nearest
            second = np.where(closer, nearest, np.minimum(second, distance))
            number = np.where(closer, _number(a, b, salt + 9), number)
            nearest = np.where(closer, distance, nearest)
    return nearest, second, number


def _grass(rng, f):
    shape = f.u.shape
    blades = 0.5 + 0.22 * rng.standard_normal(shape) + 0.25 * smooth_noise(rng, shape, 3)
    dry = np.clip(0.6 * smooth_noise(rng, shape, 16) - 0.15, 0, 0.75)
    return _mix(_mix((35, 75, 25), (135, 180, 75), blades), (190, 170, 95), dry)


def _water(rng, f):
    shape = f.u.shape
    ripple = np.sin(0.9 * f.v + 2.2 * smooth_noise(rng, shape, 14))
    deep = _mix((20, 70, 125), (70, 165, 185), 0.5 + 0.45 * smooth_noise(rng, shape, 26))
    foam = np.clip(1.5 * ripple + 1.8 * smooth_noise(rng, shape, 9) - 2.25, 0, 0.9)
    return _mix(deep + ripple[..., None] * (22, 28, 28), (225, 238, 240), foam)


def _sand(rng, f):
    shape = f.u.shape
    dune = np.sin(0.42 * f.v + 1.6 * smooth_noise(rng, shape, 22))
    grain = 0.13 * rng.standard_normal(shape) + 0.12 * smooth_noise(rng, shape, 20)
    return _mix((165, 130, 85), (240, 215, 165), 0.55 + 0.3 * dune + grain)


def _brick(rng, f):
    row = np.floor(f.v / 11)
    along = f.u / 22 + 0.5 * (row % 2)
    column = np.floor(along)
    tone = _number(row, column, rng.uniform(0, 9)) + 0.1 * smooth_noise(rng, f.u.shape, 3)
    mortar = (f.v / 11 - row < 0.17) | (along - column < 0.085)
    return _mix(_mix((105, 45, 38), (200, 110, 75), tone), (196, 188, 178), mortar)


def _wood(rng, f):
    plank = np.floor(f.u / 15)
    grain = np.sin(1.5 * f.u + 3.0 * smooth_noise(rng, f.u.shape, 18))
    tone = 0.25 + 0.5 * _number(plank, 0, rng.uniform(0, 9)) + 0.18 * grain + 0.05 * rng.standard_normal(f.u.shape)
    return _mix(_mix((85, 52, 28), (190, 140, 88), tone), (50, 32, 20), f.u / 15 - plank < 0.09)


def _stone(rng, f):
    nearest, second, number = _pebbles(f, 15, rng.uniform(0, 9))
    tone = number + 0.12 * smooth_noise(rng, f.u.shape, 3) - 0.25 * (nearest - 0.3)
    return _mix(_mix((88, 88, 94), (185, 182, 180), tone), (48, 48, 52), 1 - 7 * (second - nearest))


def _snow(rng, f):
    drift = 0.35 * smooth_noise(rng, f.u.shape, 15) + 0.05 * rng.standard_normal(f.u.shape)
    return _mix((165, 185, 220), (252, 252, 255), 0.75 + drift)


def _lava(rng, f):
    vein = 1.15 - 2.6 * np.abs(smooth_noise(rng, f.u.shape, 13)) + 0.1 * smooth_noise(rng, f.u.shape, 3)
    return _mix((42, 22, 22), (235, 70, 10), 1.2 * vein) + np.clip(vein - 0.75, 0, 1)[..., None] * (60, 480, 160)


def _stripes(rng, f):
    return _mix((240, 195, 40), (35, 33, 40), (f.u / 15) % 1 < 0.5)


def _checkerboard(rng, f):
    return _mix((240, 240, 235), (25, 25, 30), (np.floor(f.u / 9) + np.floor(f.v / 9)) % 2)


def _polka_dots(rng, f):
    row = np.floor(f.v / 14)
    along = f.u / 16 + 0.5 * (row % 2)
    distance = np.hypot((along - np.floor(along) - 0.5) * 16, (f.v / 14 - row - 0.5) * 14)
    return _mix((200, 50, 130), (250, 240, 248), 5.5 - distance)


def _sky(rng, f):
    cloud = smooth_noise(rng, f.u.shape, 20) + 0.45 * smooth_noise(rng, f.u.shape, 8)
    return _mix((85, 150, 230), (242, 244, 250), 0.15 + 0.75 * np.clip(cloud, -0.2, 1.2))


PAINTERS: dict[str, Painter] = {
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
MATERIALS = tuple(PAINTERS)
