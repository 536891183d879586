"""mIoU of one image, error maps and the order of images."""

import math

import numpy as np
import pytest

from mmseg_sclip.comparison import IGNORED, RIGHT, WRONG, Subject, error_map, image_miou, rank, share_right


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
    assert image_miou(prediction, truth, 7, ignore) == pytest.approx(naive_miou(prediction, truth, 7, ignore))


def test_absent_classes_do_not_count():
    truth = np.array([[0, 0], [1, 255]])
    assert image_miou(np.array([[0, 0], [1, 3]]), truth, 20) == 100  # class 3 stands on an ignored pixel only
    assert image_miou(np.array([[0, 1], [1, 1]]), truth, 20) == pytest.approx(50)
    assert image_miou(np.array([[0, 2], [1, 1]]), truth, 20) == pytest.approx((50 + 100 + 0) / 3)
    assert math.isnan(image_miou(truth, np.full((2, 2), 255), 20))


def test_error_map_by_hand():
    prediction = np.array([[0, 1, 2], [2, 2, 255]])
    truth = np.array([[0, 0, 2], [255, 1, 255]], np.uint8)
    expected = [[RIGHT, WRONG, RIGHT], [IGNORED, WRONG, IGNORED]]
    errors = error_map(prediction, truth)
    assert errors.tolist() == expected
    assert share_right(errors) == 50
    assert error_map(prediction, truth, ignore_index=1).tolist() == [[RIGHT, WRONG, RIGHT], [WRONG, IGNORED, RIGHT]]
    assert math.isnan(share_right(np.full((2, 2), IGNORED)))


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
