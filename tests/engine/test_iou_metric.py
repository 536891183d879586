"""Exact counts against MMSeg's histograms, and labels that stand for no class."""

import pytest
import torch
from mmseg.evaluation import IoUMetric

from mmseg_sclip.engine import ExactIoUMetric, iou_metric


@pytest.mark.parametrize('ignore', [255, 0])
@pytest.mark.parametrize('highest', [7, 9])
def test_counts_equal_mmsegs(ignore, highest):
    generator = torch.Generator().manual_seed(0)
    for classes in (2, 7, 8):  # of one class MMSeg's histogram counts everything
        truth = torch.randint(0, highest, (33, 47), generator=generator)  # with 9, labels that are no class
        truth[:5] = ignore
        guess = torch.randint(0, classes, (33, 47), generator=generator)
        ours = ExactIoUMetric.intersect_and_union(guess, truth, classes, ignore)
        theirs = IoUMetric.intersect_and_union(guess, truth, classes, ignore)
        assert [count.dtype for count in ours] == [torch.int64] * 4
        assert [count.tolist() for count in ours] == [count.long().tolist() for count in theirs]


def test_counts_by_hand():
    guess = torch.tensor([[0, 0, 1], [2, 2, 1]])
    truth = torch.tensor([[0, 1, 1], [255, 2, 0]])
    found = ExactIoUMetric.intersect_and_union(guess, truth, 3, 255)
    assert [count.tolist() for count in found] == [[1, 1, 1], [3, 3, 1], [2, 2, 1], [2, 2, 1]]


def metric(results=()):
    found = ExactIoUMetric(iou_metrics=['mIoU'])
    found.dataset_meta = dict(classes=['a', 'b'])
    found.results.extend(results)
    return found


def test_sums_stay_exact_where_float32_does_not():
    many = 2**24
    each = torch.tensor([many, 1]), torch.tensor([many, 2]), torch.tensor([many, 1]), torch.tensor([many, 2])
    one = torch.tensor([1, 1]), torch.tensor([1, 2]), torch.tensor([1, 1]), torch.tensor([1, 2])
    values = metric().compute_metrics([each, one, one, one])
    assert values['mIoU'] == 75.0 and values['aAcc'] == 100.0
    assert sum(count[0] for count in (each[0], one[0], one[0])).item() == many + 2


def sample(truth, name):
    return dict(
        pred_sem_seg=dict(data=torch.zeros_like(truth)), gt_sem_seg=dict(data=truth), img_path=f'images/{name}.jpg'
    )


def test_labels_that_are_no_class_are_reported_once(monkeypatch):
    said = []
    monkeypatch.setattr(iou_metric, 'print_log', lambda text, **_: said.append(text))
    found = metric()
    found.process({}, [sample(torch.tensor([[[0, 1], [255, 0]]]), 'fine')])
    assert not said
    found.process({}, [sample(torch.tensor([[[0, 7], [255, 3]]]), 'strange'), sample(torch.tensor([[[9]]]), 'next')])
    assert len(said) == 1
    assert 'images/strange.jpg has the label 3, 7' in said[0] and '2 classes (0 to 1)' in said[0]
    assert len(found.results) == 3


def test_negative_labels_are_no_class():
    found = ExactIoUMetric.intersect_and_union(torch.tensor([-1, 0, 1]), torch.tensor([1, -1, 1]), 2, 255)
    assert [count.tolist() for count in found] == [[0, 1], [1, 2], [1, 1], [0, 2]]
