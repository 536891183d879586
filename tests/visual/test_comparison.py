"""What predictions are worth, and the order of images."""

import math

import numpy as np
import pytest
import torch

from mmseg_sclip.engine import ExactIoUMetric
from mmseg_sclip.visual.comparison import image_miou, rank, share_right
from mmseg_sclip.visual.subjects import Subject


def miou(prediction, truth, classes, ignore_index=255):
    metric = ExactIoUMetric(ignore_index=ignore_index)
    metric.dataset_meta = dict(classes=range(classes))
    data = dict(prediction=torch.from_numpy(prediction), truth=torch.from_numpy(truth))
    return image_miou(
        metric.count(dict(pred_sem_seg=dict(data=data['prediction']), gt_sem_seg=dict(data=data['truth'])))
    )


def naive_miou(prediction, truth, classes, ignore):
    values = []
    for label in range(classes):
        both = either = 0
        for p, t in zip(prediction.ravel(), truth.ravel(), strict=True):
            if t == ignore:
                continue
            both += p == label and t == label
            either += p == label or t == label
        if either:
            values.append(both / either)
    return 100 * sum(values) / len(values) if values else math.nan


@pytest.mark.parametrize('seed', range(6))
@pytest.mark.parametrize('ignore', [255, 2])
def test_miou_against_loops(seed, ignore):
    rng = np.random.default_rng(seed)
    truth = rng.choice([0, 1, 2, 5, 255 if ignore == 255 else 2], (9, 11)).astype(np.uint8)
    prediction = rng.choice([0, 1, 4, 5], (9, 11))
    assert miou(prediction, truth, 7, ignore) == pytest.approx(naive_miou(prediction, truth, 7, ignore))


def test_absent_classes_do_not_count():
    truth = np.array([[0, 0], [1, 255]])
    assert miou(np.array([[0, 0], [1, 3]]), truth, 20) == 100  # class 3 stands on an ignored pixel only
    assert miou(np.array([[0, 1], [1, 1]]), truth, 20) == pytest.approx(50)
    assert miou(np.array([[0, 2], [1, 1]]), truth, 20) == pytest.approx((50 + 100 + 0) / 3)
    assert math.isnan(miou(truth, np.full((2, 2), 255), 20))


def test_the_share_of_right_pixels():
    prediction = np.array([[0, 1, 2], [2, 2, 255]])
    truth = np.array([[0, 0, 2], [255, 1, 255]], np.uint8)
    assert share_right(prediction, truth, 255) == 50
    assert share_right(prediction, truth, 1) == 60
    assert share_right(prediction, truth, [1, 255]) == pytest.approx(200 / 3)
    assert math.isnan(share_right(truth, np.full((2, 3), 9), 9))


def subjects(count):
    return [Subject(f'{i}.jpg', i) for i in range(count)]


@pytest.mark.parametrize(
    'by, worst, expected',
    [('first', True, [3, 0, 2]), ('first', False, [1, 0, 2]), ('last', True, [3, 0, 2])],
)
def test_order_by_one_method(by, worst, expected):
    values = [30, 70, 30, 10, math.nan]
    scores = {subject: [value] for subject, value in zip(subjects(5), values, strict=True)}
    assert [subject.index for subject in rank(scores, by, worst, 3)] == expected  # equal ones as in the dataset


def test_order_by_gain():
    values = [(30, 50), (70, 40), (10, 11), (math.nan, 5)]
    scores = dict(zip(subjects(4), values, strict=True))
    assert [subject.index for subject in rank(scores, 'gain', False, 9)] == [0, 2, 1]
    assert [subject.index for subject in rank(scores, 'gain', True, 1)] == [1]
