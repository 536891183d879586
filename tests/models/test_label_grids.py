"""Label grids and what is made of them, against loops over pixels, patches and pairs."""

import math
from collections import Counter

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from mmseg_sclip.models.methods.resclip import label_grids
from mmseg_sclip.models.methods.resclip.label_grids import blur_rows, patch_labels, refined_labels, same_label
from mmseg_sclip.models.refinements import pamr


@pytest.mark.parametrize('steps', [0, 3])
@pytest.mark.parametrize('queries', [1, 5, 70])
@pytest.mark.parametrize('pixels', [1, 2**19])
def test_best_query_of_each_pixel(monkeypatch, queries, steps, pixels):
    monkeypatch.setattr(label_grids, '_PIXELS', pixels)  # one window at once, or all
    rng = np.random.RandomState(0)
    scores = torch.from_numpy(rng.uniform(-0.2, 0.3, (3, queries, 3, 4))).float()
    scores[:, queries - 1] = scores[:, 0]  # equally good ones, the last one in another part of the queries
    images = torch.from_numpy(rng.standard_normal((3, 3, 24, 35))).float()
    before = scores.clone()
    labels = refined_labels(scores, images, 20, 0.3, steps, (2, 5))
    assert torch.equal(scores, before)
    assert labels.dtype == torch.int64
    for image, maps, got in zip(images, scores, labels, strict=True):
        maps = F.interpolate(maps[None], (24, 35), mode='bilinear')[0]
        maps = pamr(image, maps, steps, (2, 5)) if steps else maps
        top, best = (20 * maps.double()).softmax(0).max(0)
        assert (got == torch.where(top < 0.3, 0, best)).float().mean() > 0.999
    assert queries == 1 or labels.unique().numel() > 1
    assert labels.max() < max(queries - 1, 1)


def test_a_probability_at_the_threshold_counts():
    scores = torch.zeros(1, 2, 1, 1)
    scores[0, 1] = 1e-8  # the second one is best, by less than its probability of 0.5 shows
    images = torch.zeros(1, 3, 4, 4)
    assert refined_labels(scores, images, 1, 0.5, 0, ()).unique().tolist() == [1]
    assert refined_labels(scores, images, 1, 0.5001, 0, ()).unique().tolist() == [0]


@pytest.mark.parametrize('size', [(8, 12), (9, 14)])  # pixels beyond the last whole patch do not count
def test_most_frequent_label(size):
    rng = np.random.RandomState(0)
    labels = torch.from_numpy(rng.randint(0, 4, (2, *size)))
    got = patch_labels(labels, (2, 4), (4, 3), 4)
    ties = 0
    for image in range(2):
        for row in range(2):
            for column in range(4):
                patch = labels[image, 4 * row : 4 * row + 4, 3 * column : 3 * column + 3]
                counts = Counter(patch.flatten().tolist())
                winners = [label for label, count in counts.items() if count == max(counts.values())]
                ties += len(winners) > 1
                assert got[image, row, column] == min(winners)
    assert ties > 0


@pytest.mark.parametrize('grid', [(4, 6), (5, 3), (1, 7), (1, 1)])
def test_pairs_of_the_same_label(grid):
    labels = torch.from_numpy(np.random.RandomState(1).randint(0, 2, (2, *grid)))
    got, plain = same_label(labels), same_label(labels, decay=False)
    places = [(row, column) for row in range(grid[0]) for column in range(grid[1])]
    longest = max(grid) - 1
    broken = 0
    for image in range(2):
        for i, a in enumerate(places):
            for j, b in enumerate(places):
                same = labels[image][a] == labels[image][b]
                distance = max(abs(a[0] - b[0]), abs(a[1] - b[1]))
                path = [
                    tuple(round(start + step * (end - start) / longest) for start, end in zip(a, b, strict=True))
                    for step in range(distance + 1)
                    if longest
                ]
                leaves = any(labels[image][place] != labels[image][a] for place in path)
                broken += bool(leaves and same)
                expected = 0 if not same else math.exp(-distance / longest) if leaves else 1
                assert abs(got[image, i, j] - expected) < 1e-6
                assert plain[image, i, j] == same
    assert broken > 0 or grid == (1, 1)


@pytest.mark.parametrize('count', [5, 6, 80])
@pytest.mark.parametrize('std', [0.7, 5.0])
def test_blur(count, std):
    matrix = torch.from_numpy(np.random.RandomState(0).uniform(0, 1, (2, 3, count)))
    taps = min(count, int(6 * std + 1))
    reach = (taps + (taps % 2 == 0)) // 2
    kernel = {away: math.exp(-0.5 * (away / std) ** 2) for away in range(-reach, reach + 1)}
    expected = torch.zeros_like(matrix)
    for to in range(count):
        for away, weight in kernel.items():
            if 0 <= to + away < count:
                expected[..., to] += weight / sum(kernel.values()) * matrix[..., to + away]
    torch.testing.assert_close(blur_rows(matrix.float(), std), expected.float())
