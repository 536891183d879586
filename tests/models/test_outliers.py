"""Outliers, their repair and affinities, against loops over tokens."""

import math

import numpy as np
import pytest
import torch

from mmseg_sclip.errors import ConfigError
from mmseg_sclip.models.methods.sc_clip.outliers import (
    cosine_affinity,
    highest_share,
    local_outlier_scores,
    normalise_rows,
    repair_tokens,
)


def tokens(*shape, seed=0):
    return torch.from_numpy(np.random.RandomState(seed).standard_normal(shape)).float()


def naive_scores(x, k):
    """One token after the other, in float64."""
    points = x.double().tolist()
    squared = [[sum((a - b) ** 2 for a, b in zip(p, q, strict=True)) for q in points] for p in points]
    nearest = [sorted(set(range(len(points))) - {i}, key=row.__getitem__)[:k] for i, row in enumerate(squared)]
    reach = [row[near[-1]] for row, near in zip(squared, nearest, strict=True)]
    return [sum(reach[i] / reach[j] for j in near) / k for i, near in enumerate(nearest)]


def test_outlier_scores():
    x = tokens(2, 40, 5)
    x[1, 3] += 20
    scores = local_outlier_scores(x, 7)
    for image, row in zip(x, scores, strict=True):
        np.testing.assert_allclose(row, naive_scores(image, 7), rtol=1e-4)
    assert scores[1].argmax() == 3


def test_what_all_tokens_share_does_not_cost_digits():
    x = tokens(1, 40, 5)
    np.testing.assert_allclose(local_outlier_scores(x + 1000, 7), local_outlier_scores(x, 7), rtol=1e-2)


def test_equal_tokens_have_finite_scores():
    assert local_outlier_scores(torch.ones(1, 40, 5), 7).isfinite().all()


def test_too_few_patches():
    assert local_outlier_scores(tokens(1, 31, 4)).shape == (1, 31)
    with pytest.raises(ConfigError, match='30 nearest ones, but a window has only 30 patches.*crop_size'):
        local_outlier_scores(tokens(1, 30, 4))


@pytest.mark.parametrize('count, above', [(196, 10), (197, 10), (441, 23)])
def test_share_of_the_highest(count, above):
    # Each is a tenth above the next, about as far as outlier scores are apart.
    scores = torch.stack([1.1 ** torch.from_numpy(np.random.RandomState(i).permutation(count)) for i in range(2)])
    mask = highest_share(scores)
    assert mask.sum(dim=1).tolist() == [above, above]
    for image, row in zip(scores, mask, strict=True):
        assert image[row].min() > image[~row].max()


def test_the_quantile_is_rounded_to_a_score_that_is_very_near():
    scores = 1 + torch.arange(441) * 2.0**-23  # neighbours in float32
    assert highest_share(scores[None]).sum() == 22


@pytest.mark.parametrize('empty', ['keep', 'zero'])
def test_repair(empty):
    height, width = 4, 6
    x = tokens(3, height * width, 2)
    outliers = torch.zeros(3, height, width, dtype=torch.bool)
    outliers[0, 0, 0] = outliers[0, 2, 5] = outliers[0, 2, 4] = True  # a corner, and two beside each other
    outliers[1, :2, :2] = True  # the corner has outliers around it only
    got = repair_tokens(x, outliers.flatten(1), (height, width), empty)
    expected = x.clone().unflatten(1, (height, width))
    for image, row, column in outliers.nonzero().tolist():
        around = [
            x[image, y * width + z]
            for y in range(max(row - 1, 0), min(row + 2, height))
            for z in range(max(column - 1, 0), min(column + 2, width))
            if not outliers[image, y, z]
        ]
        mean = torch.stack(around).mean(dim=0) if around else x[image, row * width + column] * (empty == 'keep')
        expected[image, row, column] = mean
    torch.testing.assert_close(got, expected.flatten(1, 2))
    assert torch.equal(got[2], x[2])


def test_affinity():
    x = torch.tensor([[[3.0, 0.0], [1.0, 1.0], [0.0, 2.0], [-1.0, 0.0]]])
    half = math.sqrt(0.5)
    cosines = torch.tensor([[[1, half, 0, -1], [half, 1, half, -half], [0, half, 1, 0], [-1, -half, 0, 1]]])
    torch.testing.assert_close(cosine_affinity(x), cosines)
    kept = torch.tensor([[[1, half, 0, 0], [half, 1, half, 0], [0, half, 1, 0], [0, 0, 0, 1]]])
    torch.testing.assert_close(cosine_affinity(x, 0.4), kept)
    rows = normalise_rows(kept)
    torch.testing.assert_close(rows[0, 0], torch.tensor([1 / (1 + half), half / (1 + half), 0, 0]))
    torch.testing.assert_close(rows.sum(dim=-1), torch.ones(1, 4))
