"""What predictions are worth, and the order of images."""

import math

import numpy as np
import pytest
import torch

from mmseg_sclip.engine import ExactIoUMetric
from mmseg_sclip.visual.comparison import image_miou, rank, share_right


def miou(prediction, truth, classes, ignore_index=255):
    metric = ExactIoUMetric(ignore_index=ignore_index)
    metric.dataset_meta = dict(classes=range(classes))
    found = dict(pred_sem_seg=torch.from_numpy(prediction), gt_sem_seg=torch.from_numpy(truth))
    return image_miou(metric.count({key: dict(data=data) for key, data in found.items()}))


@pytest.mark.parametrize('ignore', [255, 2])
def test_miou_against_sets(ignore):
    rng = np.random.default_rng(0)
    truth = rng.choice([0, 1, 2, 5, 255 if ignore == 255 else 2], (9, 11)).astype(np.uint8)
    prediction = rng.choice([0, 1, 4, 5], (9, 11))
    counted = {place for place in np.ndindex(truth.shape) if truth[place] != ignore}
    values = []
    for label in range(7):
        found, true = ({place for place in counted if labels[place] == label} for labels in (prediction, truth))
        values += [len(found & true) / len(found | true)] if found | true else []
    assert miou(prediction, truth, 7, ignore) == pytest.approx(100 * sum(values) / len(values))


def test_absent_classes_do_not_count():
    truth = np.array([[0, 0], [1, 255]])
    assert miou(np.array([[0, 0], [1, 3]]), truth, 20) == 100  # class 3 stands on an ignored pixel only
    assert miou(np.array([[0, 2], [1, 1]]), truth, 20) == pytest.approx((50 + 100 + 0) / 3)
    assert math.isnan(miou(truth, np.full((2, 2), 255), 20))


def test_the_share_of_right_pixels():
    prediction = np.array([[0, 1, 2], [2, 2, 255]])
    truth = np.array([[0, 0, 2], [255, 1, 255]], np.uint8)
    assert share_right(prediction, truth, 255) == 50
    assert share_right(prediction, truth, [1, 255]) == pytest.approx(200 / 3)
    assert math.isnan(share_right(truth, np.full((2, 3), 9), 9))


@pytest.mark.parametrize(
    'by, worst, count, values, expected',
    [
        ('first', True, 3, [[30], [70], [30], [10], [math.nan]], [3, 0, 2]),  # equal ones as in the dataset
        ('first', False, 3, [[30], [70], [30], [10], [math.nan]], [1, 0, 2]),
        ('last', True, 3, [[30], [70], [30], [10], [math.nan]], [3, 0, 2]),
        ('gain', False, 9, [(30, 50), (70, 40), (10, 11), (math.nan, 5)], [0, 2, 1]),
        ('gain', True, 1, [(30, 50), (70, 40), (10, 11), (math.nan, 5)], [1]),
    ],
)
def test_the_order_of_images(by, worst, count, values, expected):
    assert rank(dict(enumerate(values)), by, worst, count) == expected
