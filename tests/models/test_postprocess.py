"""Post-processing against answers worked out by hand, and against the mask-and-multiply way."""

import torch

from mmseg_sclip.models.image.postprocess import (
    best_of_class,
    count_labels,
    large_classes,
    predict_labels,
    query_probabilities,
    suppress_classes,
)


def class_scores(cosines, logit_scale, sizes):
    return best_of_class(query_probabilities(cosines, logit_scale), sizes)


def column(*values):
    """(K, 1, 1): the scores of one pixel."""
    return torch.tensor(values, dtype=torch.float32)[:, None, None]


def test_softmax_over_queries_then_the_largest_of_a_class():
    # Odds 1 : 2 : 5 over the queries; class 0 has the first two.
    cosines = column(1.0, 2.0, 5.0).log() / 10
    scores = class_scores(cosines, 10, (2, 1))
    torch.testing.assert_close(scores, column(2 / 8, 5 / 8))  # not 3/8: the maximum, not the sum


def test_equal_queries_of_two_classes_stay_equal():
    scores = class_scores(column(0.3, 0.7, 0.7, 0.1), 50, (2, 1, 1))
    assert scores[0] == scores[1]
    assert predict_labels(scores, None, None).item() == 0


def test_grouped_maximum_equals_mask_and_multiply():
    torch.manual_seed(0)
    cosines = torch.rand(9, 6, 5)
    sizes = (4, 1, 3, 1)
    members = torch.repeat_interleave(torch.eye(4), torch.tensor(sizes), dim=1)  # (C, Q)
    probabilities = (cosines * 40).softmax(0)
    expected = (members[..., None, None] * probabilities[None]).amax(1)
    assert torch.equal(class_scores(cosines, 40, sizes), expected)


def suppress_small_classes(scores, area_thd, background):
    counts = count_labels(scores.argmax(dim=0), len(scores))
    return suppress_classes(scores, large_classes(counts, area_thd, background))


def one_hot(labels, classes):
    return torch.nn.functional.one_hot(torch.tensor(labels), classes).permute(2, 0, 1).float() * 0.9


def test_area_is_a_share_of_the_foreground_not_of_the_image():
    labels = [[0] * 10, [0] * 10, [1] * 9 + [2]]  # foreground: nine pixels of class 1 and one of class 2
    kept = suppress_small_classes(one_hot(labels, 3), 0.05, 0)
    assert kept.amax((1, 2)).tolist() == torch.tensor([0.9, 0.9, 0.9]).tolist()  # 1 of 10, though 1 of 30 of the image
    dropped = suppress_small_classes(one_hot(labels, 3), 0.1, 0)  # strictly more than a tenth is wanted
    assert dropped.amax((1, 2)).tolist() == torch.tensor([0.9, 0.9, 0.0]).tolist()


def test_dropped_pixels_go_to_their_next_class():
    scores = torch.tensor([[0.2, 0.1], [0.1, 0.5], [0.7, 0.4]])[:, None].repeat_interleave(2, dim=1)
    scores[:, 1] = torch.tensor([0.1, 0.8, 0.1])[:, None]
    assert predict_labels(scores, None, None).tolist() == [[2, 1], [1, 1]]
    small = suppress_small_classes(scores, 0.3, 0)  # class 2 has one pixel of four
    assert predict_labels(small, None, None).tolist() == [[0, 1], [1, 1]]


def test_no_foreground_leaves_everything_background():
    scores = one_hot([[0, 0], [0, 0]], 3) + 0.01
    assert predict_labels(suppress_small_classes(scores, 0.1, 0), None, None).sum() == 0


def test_another_background_index():
    labels = [[2, 2, 2, 2], [1, 0, 0, 0]]
    kept = suppress_small_classes(one_hot(labels, 3), 0.3, 2)
    assert kept.amax((1, 2)).tolist() == torch.tensor([0.9, 0.0, 0.9]).tolist()


def test_unsure_pixels_become_background_strictly_below_the_threshold():
    scores = torch.tensor([[[0.1, 0.1, 0.1]], [[0.49, 0.5, 0.2]], [[0.2, 0.3, 0.9]]])
    assert predict_labels(scores, 0.5, 0).tolist() == [[0, 1, 2]]
    assert predict_labels(scores, 0.5, 2).tolist() == [[2, 1, 2]]
    owners = torch.tensor([1, 2, 2])  # as queries of the classes 1 and 2
    assert predict_labels(scores, 0.5, 0, owners).tolist() == [[0, 2, 2]]
    assert predict_labels(scores, 0, 0).tolist() == predict_labels(scores, None, 0).tolist() == [[1, 1, 2]]


def test_counts_are_exact_beyond_float32_and_float16():
    counts = torch.tensor([5, 167772162, 1509949448])  # one pixel more than a tenth of the foreground
    assert large_classes(counts, 0.1, 0).tolist() == [True, True, True]
    assert counts[0] == 5  # not changed
    counts = torch.tensor([5, 167772160, 1509949450])  # one pixel less
    assert large_classes(counts, 0.1, 0).tolist() == [True, False, True]
    scores = torch.zeros(2, 300, 300, dtype=torch.float16)
    scores[1] = 0.9  # 90,000 pixels are more than float16 can count
    assert suppress_small_classes(scores, 0.1, 0)[1].min() > 0.8


def test_where_all_that_is_kept_is_zero_the_first_class_wins():
    scores = torch.tensor([0.0, 1.0, 0.0])[:, None, None]  # the softmax has underflowed
    small = suppress_classes(scores, torch.tensor([True, False, True]))
    assert predict_labels(small, None, None).item() == 0
    assert predict_labels(small, 0.1, 2).item() == 2
