"""From scores of windows to labels of pixels: windows, geometry, bands, and the thresholds, against plain loops."""

import numpy as np
import pytest
import torch
from helpers import build, sample
from torch.nn import functional as F

from mmseg_sclip.models.image import scores as scores_module
from mmseg_sclip.models.image.geometry import Placement, image_axes
from mmseg_sclip.models.image.labels import label_in_bands
from mmseg_sclip.models.image.postprocess import best_of_class, large_classes, min_max, predict_labels, suppress_classes
from mmseg_sclip.models.image.scores import ChangedScores, ClassScores, MapScores, MeanScores, PixelScores, whole
from mmseg_sclip.models.image.taps import Taps
from mmseg_sclip.models.image.windows import PatchScores, WindowGrid, score_windows
from mmseg_sclip.models.refinements import pamr


def test_windows_as_mmsegmentation_cuts_them():
    for size, windows in (
        ((224, 224), [(0, 224, 0, 224)]),
        ((100, 336), [(0, 100, 0, 224), (0, 100, 112, 336)]),
        ((225, 224), [(0, 224, 0, 224), (1, 225, 0, 224)]),
    ):
        assert WindowGrid.cut(*size, (224, 224), (112, 112)).windows == windows
    sizes = ((336, 448), (448, 597), (560, 1120))
    assert [len(WindowGrid.cut(*size, (224, 224), (112, 112)).windows) for size in sizes] == [6, 15, 36]


@pytest.mark.parametrize('window_batch', [1, 3, 64])
def test_each_window_gets_its_own_scores_whatever_runs_beside_it(window_batch):
    images = [torch.randn(3, *size) for size in ((9, 13), (6, 4), (5, 9), (6, 4))]
    grids = [WindowGrid.cut(*image.shape[1:], (6, 4), (3, 3)) for image in images]
    batches = []

    def score(crops, places):
        batches.append([place.image for place in places])
        for crop, place in zip(crops, places, strict=True):
            assert torch.equal(crop, images[place.image][:, slice(*place.rows), slice(*place.columns)])
        return [PatchScores(crops), PatchScores(2 * crops[:, :1], (None, crops.mean(dim=1)))]

    for number, each in enumerate(score_windows(images, grids, window_batch, score)):
        for image, grid, found in zip(images, grids, each, strict=True):
            source = 2 * image[:1] if number else image
            rows = [
                torch.cat([source[:, top:bottom, left:right] for left, right in grid.columns], dim=2)
                for top, bottom in grid.rows
            ]
            assert torch.equal(found.scores, torch.cat(rows, dim=1).transpose(0, 1))
            if number and len(grid.windows) == 1:  # of several windows nothing is kept
                assert found.seen[0] is None and torch.equal(found.seen[1], image.mean(dim=0))
            else:
                assert found.seen == ()
    assert max(map(len, batches)) == min(window_batch, 10)  # windows of 6 x 4, of 5 x 4 apart


# What was padded (left, right, top, bottom) and flipped; several in a row, since matrices are kept.
TREATMENTS = [
    dict(padding_size=(0, 12, 0, 16)),
    dict(img_padding_size=(9, 5, 12, 3), padding_size=(1, 1, 1, 1)),
    dict(padding_size=(5, 9, 3, 12), flip=True, flip_direction='horizontal'),
    dict(padding_size=(5, 9, 3, 12), flip=True, flip_direction='vertical'),
    dict(flip=True, flip_direction='horizontal'),
    dict(flip=True, flip_direction='vertical'),
    dict(flip=False, flip_direction='vertical'),
]


@pytest.mark.parametrize('refine', [(), [dict(type='PAMR', steps=2, dilations=(1, 3))]], ids=['', 'PAMR'])
@pytest.mark.parametrize('mode', ['slide', 'whole'])
@torch.no_grad()
def test_padding_and_flips_are_undone_as_mmsegmentation_does(source, mode, refine):
    model, image, shape = build(source, mode=mode, keep_scores=True, refine=refine), torch.randn(3, 64, 96), (50, 65)

    def clean_up(maps, meta):
        (result,) = super(type(model), model).postprocess_result(maps[None], [sample(shape, **meta)])
        return result.seg_logits.data

    for meta in TREATMENTS[:2] + TREATMENTS[3:5] if refine else TREATMENTS:
        (result,) = model.predict([image], [sample(shape, **meta)])
        if mode == 'slide':
            cosines = model.slide_inference(image[None], [dict(ori_shape=image.shape[1:])])
        elif any('padding' in key for key in meta):
            cosines = model.encode_decode(image[None], [dict(ori_shape=image.shape[1:])])
        else:  # straight from the patches
            cosines = model._forward(image[None])
        cosines = clean_up(cosines[0], meta)
        cosines = pamr(clean_up(image, meta), cosines, 2, (1, 3)) if refine else cosines
        expected = best_of_class((cosines * 40).softmax(0), (2, 1, 1))
        torch.testing.assert_close(result.seg_logits.data, expected, atol=1e-4, rtol=0)


def test_through_the_networks_input_or_straight_to_the_original_size():
    patches, size = torch.randn(2, 3, 4), (30, 41)
    axes = image_axes((48, 70), dict(ori_shape=size))
    for spans, steps in (((None, None), [size]), ((((0, 48),), ((0, 70),)), [(48, 70), size])):
        expected = patches[None]
        for step in steps:
            expected = F.interpolate(expected, step, mode='bilinear')
        placement = Placement(axes, spans)
        found = whole(PixelScores(patches.transpose(0, 1), *placement.matrices((3, 4))))
        torch.testing.assert_close(found, expected[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize('seed', range(6))
def test_bands_equal_the_plain_functions_on_random_scores(seed, monkeypatch):
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    sizes = rng.integers(1, 4, rng.integers(2, 7)).tolist()
    phrases = int(rng.integers(2, sum(sizes) + 1))
    queries = torch.from_numpy(rng.integers(0, phrases, sum(sizes)))  # repeated, in any order, some phrases unused
    patches, rows, columns = torch.randn(6, phrases, 8), torch.rand(37, 6), torch.rand(29, 8)
    pixels = PixelScores(patches / 40, rows, columns, queries)
    cosines = torch.einsum('ip,pqr,jr->qij', rows, patches / 40, columns)[queries]
    torch.testing.assert_close(whole(pixels), cosines)
    scale, background = 40 if seed % 3 else 4000, int(rng.integers(len(sizes)))
    monkeypatch.setattr(scores_module, '_BAND_CPU', 29 * sum(sizes) * 5)  # of five rows, the last one of two
    for prob_thd, area_thd in ((None, None), (0.3, None), (None, 0.2), (0.25, 0.4)):
        scores = best_of_class((whole(pixels) * scale).softmax(0), sizes)
        if area_thd is not None:
            counts = np.bincount(scores.argmax(0).flatten().numpy(), minlength=len(sizes))
            foreground = counts.sum() - counts[background]
            for label, count in enumerate(counts):
                if label != background and not count > area_thd * foreground:
                    scores[label] = 0
        best, expected = scores.max(0)
        if prob_thd is not None:
            expected[best < prob_thd] = background
        classes = ClassScores(pixels, sizes, scale)
        for keep in (False, True):
            labels, kept = label_in_bands(classes, prob_thd, area_thd, background, keep)
            assert torch.equal(labels, expected) and (kept is not None) is keep
            if keep:
                torch.testing.assert_close(kept, scores, atol=1e-3, rtol=0)


def test_peaks_changes_and_means_of_scores():
    maps, queries = torch.tensor([[[1.0, 5, 2]], [[-3, -1, -2]]]), torch.tensor([1, 0, 1])
    scores = MapScores(maps, queries)
    assert MapScores(maps).peaks().tolist() == [5, -1] and scores.peaks().tolist() == [-1, 5, -1]
    changed = ChangedScores(scores, lambda band: band * 2)
    assert torch.equal(whole(changed), 2 * maps[queries]) and changed.best(0, 1).tolist() == [[1, 1, 1]]
    assert torch.equal(whole(MeanScores([changed, scores, scores])), maps[queries] * 4 / 3)
    pixels = PixelScores(maps.transpose(0, 1), torch.ones(2, 1), torch.rand(9, 3), queries)
    assert pixels.peaks().tolist() == [-1, 5, -1]  # of the patches
    constant = torch.stack([maps[0], torch.ones(1, 3)])
    assert min_max(constant).tolist() == [[[0, 1, 0.25]], [[0, 0, 0]]]


def suppress_small_classes(scores, area_thd, background):
    counts = scores.argmax(dim=0).flatten().bincount(minlength=len(scores))
    return suppress_classes(scores, large_classes(counts, area_thd, background))


def one_hot(labels, classes=3):
    return F.one_hot(torch.tensor(labels), classes).permute(2, 0, 1).float()


def test_area_is_a_share_of_the_foreground_that_must_be_exceeded():
    labels = [[0] * 10, [0] * 10, [1] * 9 + [2]]  # foreground: nine pixels of class 1 and one of class 2
    for threshold, background, expected in ((0.05, 0, [1, 1, 1]), (0.1, 0, [1, 1, 0]), (0.32, 2, [1, 0, 1])):
        assert suppress_small_classes(one_hot(labels), threshold, background).amax((1, 2)).tolist() == expected
    assert predict_labels(suppress_small_classes(one_hot([[0, 0]]) + 0.01, 0.1, 0), None, None).sum() == 0
    for count, kept in ((167772162, True), (167772160, False)):  # one pixel more or less than a tenth, beyond float32
        counts = torch.tensor([5, count, 1677721610 - count])
        assert large_classes(counts, 0.1, 0).tolist() == [True, kept, True]
        assert counts[0] == 5  # not changed


def test_dropped_pixels_go_to_their_next_class_and_where_all_is_zero_to_the_first():
    scores = torch.tensor([[0.2, 0.1], [0.1, 0.5], [0.7, 0.4]])[:, None].repeat_interleave(2, dim=1)
    scores[:, 1] = torch.tensor([0.1, 0.8, 0.1])[:, None]
    assert predict_labels(scores, None, None).tolist() == [[2, 1], [1, 1]]
    small = suppress_small_classes(scores, 0.3, 0)  # class 2 has one pixel of four
    assert predict_labels(small, None, None).tolist() == [[0, 1], [1, 1]]
    small = suppress_classes(torch.tensor([0.0, 1.0, 0.0])[:, None, None], torch.tensor([True, False, True]))
    assert (predict_labels(small, None, None).item(), predict_labels(small, 0.1, 2).item()) == (0, 2)


def test_unsure_pixels_become_background_strictly_below_the_threshold():
    scores = torch.tensor([[[0.1, 0.1, 0.1]], [[0.49, 0.5, 0.2]], [[0.2, 0.3, 0.9]]])
    assert predict_labels(scores, 0.5, 0).tolist() == [[0, 1, 2]]
    assert predict_labels(scores, 0.5, 2).tolist() == [[2, 1, 2]]
    assert predict_labels(scores, 0.5, 0, torch.tensor([1, 2, 2])).tolist() == [[0, 2, 2]]  # as queries of classes
    assert predict_labels(scores, 0, 0).tolist() == predict_labels(scores, None, 0).tolist() == [[1, 1, 2]]


@pytest.mark.parametrize('dim', [0, -1])
@pytest.mark.parametrize('most', [1, 3])
def test_few_places_are_read_as_a_product_would(dim, most):
    generator = torch.Generator().manual_seed(0)
    matrix, values = torch.zeros(50, 200), torch.rand(200, 200, generator=generator)
    for row in matrix[1:]:  # the first looks at nothing
        places = torch.randperm(200, generator=generator)[: torch.randint(1, most + 1, (), generator=generator)]
        row[places] = torch.rand(len(places), generator=generator)
    taps = Taps.of(matrix)
    assert len(taps.places) == most and Taps.of(torch.eye(127)) is None and Taps.of(torch.ones(2, 200)) is None
    product = matrix @ values if dim == 0 else values @ matrix.T
    torch.testing.assert_close(taps.read(values, dim), product)
    torch.testing.assert_close(taps.band(10, 20).read(values, dim), product.narrow(dim, 10, 10))
