"""Connected parts of masks and their boxes, against a flood fill that visits one pixel after the other."""

import numpy as np
import pytest
import torch

from mmseg_sclip.models.methods.freecp.components import connected_components, fill_boxes

SNAKE = [
    '#######',
    '......#',
    '#####.#',
    '#...#.#',
    '#.#.#.#',
    '#.###.#',
    '#.....#',
    '#######',
]


def flood_fill(mask):
    """The parts of a mask (h, w), each as a list of (row, column)."""
    left, parts = {tuple(place) for place in np.argwhere(mask)}, []
    while left:
        part, queue = [], [left.pop()]
        while queue:
            row, column = queue.pop()
            part.append((row, column))
            near = {(row + i, column + j) for i in (-1, 0, 1) for j in (-1, 0, 1)} & left
            left -= near
            queue.extend(near)
        parts.append(part)
    return parts


def boxes_by_hand(mask):
    """FreeCP's boxes: from the first to before min(last + 1, side - 1), in rows and in columns."""
    filled = np.zeros_like(mask)
    for part in flood_fill(mask):
        rows, columns = zip(*part, strict=True)
        bottom, right = (min(max(x) + 1, side - 1) for x, side in zip((rows, columns), mask.shape, strict=True))
        filled[min(rows) : bottom, min(columns) : right] = True
    return filled


def masks(share):
    torch.manual_seed(0)
    return torch.rand(60, 11, 7) < share


@pytest.mark.parametrize('share', [0.1, 0.35, 0.5, 0.9])
def test_parts_of_random_masks(share):
    some = masks(share)
    for mask, labels in zip(some.numpy(), connected_components(some).numpy(), strict=True):
        parts = flood_fill(mask)
        assert ((labels > 0) == mask).all()
        assert [len({labels[place] for place in part}) for part in parts] == [1] * len(parts)
        assert len(set(labels[mask])) == len(parts)


def test_a_long_winding_part():
    mask = torch.tensor([[sign == '#' for sign in line] for line in SNAKE])
    (labels,) = connected_components(mask[None])
    assert labels[mask].unique().tolist() == [56]
    assert connected_components(torch.zeros(1, 3, 3, dtype=bool)).tolist() == [[[0] * 3] * 3]


@pytest.mark.parametrize('share', [0, 0.1, 0.35, 0.9])
def test_boxes_of_random_masks(share):
    some = masks(share)
    expected = [boxes_by_hand(mask) for mask in some.numpy()]
    assert (fill_boxes(some).numpy() == np.stack(expected)).all()


def test_boxes_by_hand():
    mask = torch.tensor(
        [
            [1, 0, 0, 0, 1],
            [0, 1, 0, 0, 1],
            [0, 0, 0, 0, 0],
            [0, 0, 1, 0, 0],
            [1, 0, 1, 1, 0],
        ]
    ).bool()
    expected = torch.tensor(
        [
            [1, 1, 0, 0, 0],
            [1, 1, 0, 0, 0],
            [0, 0, 0, 0, 0],
            [0, 0, 1, 1, 0],
            [0, 0, 0, 0, 0],
        ]
    ).bool()
    assert torch.equal(fill_boxes(mask[None])[0], expected)
