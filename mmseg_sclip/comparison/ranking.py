"""Which images are worth looking at."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from .images import Subject


class Criterion(NamedTuple):
    """What images are ranked by.

    Attributes:
        methods: Indices of the methods that must predict the whole dataset.
        value: From their mIoU on an image to one number.
    """

    methods: tuple[int, ...]
    value: Callable[..., float]


CRITERIA = {
    'first': Criterion((0,), lambda first: first),
    'last': Criterion((-1,), lambda last: last),
    'gain': Criterion((0, -1), lambda first, last: last - first),
}


def rank(scores: Mapping[Subject, Sequence[float]], by: str, worst: bool, count: int) -> list[Subject]:
    """The worst or the best images, the most extreme first; equal ones in the order of the dataset.

    Args:
        scores: For each image the mIoU of the criterion's methods; images with nan are left out.
        by: A key of CRITERIA.
        worst: Lowest numbers first.
        count: How many at most.
    """
    values = {subject: CRITERIA[by].value(*each) for subject, each in scores.items()}
    known = [subject for subject, value in values.items() if not math.isnan(value)]
    return sorted(known, key=lambda subject: values[subject] if worst else -values[subject])[:count]
