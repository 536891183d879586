"""CLIPtrase against the official outputs, and its hard decisions against second implementations."""

import numpy as np
import pytest
import torch
from helpers import sample
from torch.nn import functional as F

from mmseg_sclip.errors import ConfigError
from mmseg_sclip.models.image.geometry import Placement, image_axes
from mmseg_sclip.models.methods.cliptrase.affinity import TokenSimilarity, token_similarity
from mmseg_sclip.models.methods.cliptrase.clustering import dbscan
from mmseg_sclip.models.methods.cliptrase.voting import SegmentVoting, cluster_means, median_filter
from mmseg_sclip.models.refinements.base import ImageView

SEVEN = ['cat', 'dog', 'bird', 'tree', 'house', 'car', 'sky']
ROWS = {(224, 224): 28, (160, 224): 63, (336, 448): 63, (336, 336): 63}
SEGMENTS = {(224, 224): dict(eps=0.7, min_points=3), (336, 336): dict(eps=1.1, min_points=7)}


def name(size):
    return f'{size[0]}x{size[1]}'


@pytest.mark.parametrize('size', ROWS, ids=name)
@torch.no_grad()
def test_tokens_affinity_and_clusters(build_method, newer, pixels, thinned, device, size):
    model = build_method('cliptrase').to(device)
    record = model.backbone.tower.record(pixels(*size)[None].to(device), model.needs)
    tokens, step = model.backbone.decoder(record), ROWS[size]
    np.testing.assert_allclose(thinned(tokens.patches[0], size), newer[f'cliptrase/{name(size)}'], atol=5e-5)
    np.testing.assert_allclose(tokens.cls[0].cpu(), newer[f'cliptrase/cls/{name(size)}'], atol=5e-5)
    similarity = token_similarity(record.block_input(11))[0, ::step].cpu()
    np.testing.assert_allclose(similarity, newer[f'cliptrase/affinity_rows/{name(size)}'], atol=1e-5)
    if size in SEGMENTS:
        rows = record.once(model.refinements[0].affinity)[0]
        np.testing.assert_allclose(rows[::step].cpu(), newer[f'cliptrase/X_rows/{name(size)}'], atol=1e-5)
        theirs = newer[f'cliptrase/official/clusters/{name(size)}']
        assert dbscan(rows, **SEGMENTS[size]).tolist() == theirs.tolist()


@torch.no_grad()
def test_the_affinity_of_another_block_and_under_autocast(build_method, wide):
    record = build_method('cliptrase').backbone.tower.record(wide, range(12))
    affinity = TokenSimilarity(block=-10)
    affinity.bind(record.tower)
    assert affinity.needs == {2}
    b = record.block_input(3)
    similarity = token_similarity(b)
    expected = (similarity[:, 1:, 1:] - similarity[:, :1, 1:]).clamp(min=0)
    torch.testing.assert_close(affinity(record), expected)
    assert (expected == 0).any()
    with torch.autocast('cpu', torch.bfloat16):
        assert torch.equal(token_similarity(b), similarity)


CASES = {
    'ADE150': (SEVEN, None, {}),
    'VOC20': (SEVEN, None, {'decode_head.type': 'ClassTokenHead'}),
    'VOC21': ([*SEVEN[:5], SEVEN[5:]], 5, {}),
}


@pytest.mark.parametrize('size', SEGMENTS, ids=name)
@pytest.mark.parametrize('case', CASES)
def test_label_maps(build_method, newer, pixels, predict, case, size):
    vocabulary, background, options = CASES[case]
    options = options | {'test_cfg.refine': [dict(type='SegmentVoting', **SEGMENTS[size])]}
    model = build_method('cliptrase', options, vocabulary, background, newer[f'cliptrase/text/{name(size)}'])
    labels, _ = predict(model, pixels(*size), size)
    assert (labels == newer[f'cliptrase/official/{case}/pred/{name(size)}']).mean() >= 0.999


def naive_dbscan(points, eps, min_points):
    """The textbook: clusters are grown one after another, from the first core point that has none."""
    near = [[j for j, q in enumerate(points) if np.linalg.norm(p - q) <= eps] for p in points]
    labels, cluster = [-1] * len(points), 0
    for start in range(len(points)):
        if labels[start] >= 0 or len(near[start]) < min_points:
            continue
        labels[start], todo = cluster, [start]
        while todo:
            point = todo.pop()
            if len(near[point]) < min_points:
                continue
            for other in near[point]:
                if labels[other] < 0:
                    labels[other] = cluster
                    todo.append(other)
        cluster += 1
    return labels


@pytest.mark.parametrize('seed', range(12))
def test_clusters_of_random_points(seed):
    rng = np.random.default_rng(seed)
    points = rng.uniform(0, 10, (60, 2)).round(1)
    for eps, min_points in ((0.9, 3), (1.3, 4), (1.3, 1), (2.0, 9)):
        eps += 1e-3  # so that no distance is met exactly
        assert dbscan(torch.from_numpy(points), eps, min_points).tolist() == naive_dbscan(points, eps, min_points)


def test_clusters_of_a_long_chain_and_of_none():
    chain = torch.randperm(300, generator=torch.Generator().manual_seed(0))[:, None].double()
    assert dbscan(chain, 1.0, 2).tolist() == [0] * 300  # a distance of eps itself is near
    assert dbscan(chain, 0.9, 2).tolist() == [-1] * 300
    # 2 is within 1 of core points of both clusters and no core point itself: the first cluster has it.
    low, high = [0.0, 0.25, 0.5, 1.0], [3.0, 3.5, 3.75, 4.0]
    for points in ([*low, 2.0, *high, 9.0], [*high, 2.0, *low, 9.0]):
        assert dbscan(torch.tensor(points)[:, None], 1.0, 4).tolist() == [0] * 5 + [1] * 4 + [-1]


def test_clusters_equal_those_of_scikit_learn():
    cluster = pytest.importorskip('sklearn.cluster')
    points = np.random.default_rng(0).uniform(0, 10, (200, 3))
    theirs = cluster.DBSCAN(eps=1.1, min_samples=4).fit(points).labels_
    assert dbscan(torch.from_numpy(points), 1.1, 4).tolist() == theirs.tolist()


def test_distances_are_exact_where_float32_is_not():
    """Points far from 0 and near each other: in float32 some distances of the middle of a chain are lost."""
    points = 1e3 + torch.arange(40, dtype=torch.float64)[:, None] * torch.tensor([[1.0, -1.0]]) * 1e-3
    points = torch.cat([points, -points])
    assert dbscan(points, 1.5e-3, 2).tolist() == [0] * 40 + [1] * 40
    assert dbscan(points, 1.4e-3, 2).tolist() == [-1] * 80


def test_median_with_mirrored_border():
    maps = np.random.default_rng(0).standard_normal((3, 5, 9))
    padded = np.pad(maps, ((0, 0), (3, 3), (3, 3)), mode='symmetric')
    theirs = [[[np.median(each[y : y + 7, x : x + 7]) for x in range(9)] for y in range(5)] for each in padded]
    np.testing.assert_array_equal(median_filter(torch.from_numpy(maps)), theirs)


def test_mean_rows_leave_noise_out():
    rows = torch.tensor([[1.0, 2], [3, 4], [100, 100], [5, 6]])
    means = cluster_means(rows, torch.tensor([1, 0, -1, 1]), 2)
    assert means.tolist() == [[3, 4], [3, 4]]


def vote(scores, flip=None, padding=(0, 0, 0, 0), **settings):
    """What pixels vote where of 8 x 8 patches the left three columns are alike, and the others."""
    left = torch.arange(64) % 8 < 3
    affinity = (left[:, None] == left).float().unflatten(0, (8, 8))
    meta = dict(ori_shape=(32, 32), flip=flip is not None, flip_direction=flip, img_padding_size=padding)
    placement = Placement(image_axes((128, 128), meta), (None, None))
    return SegmentVoting(**settings).refine(scores, ImageView(None, None, None, placement, affinity))


def test_pixels_of_a_segment_vote():
    scores = torch.full((3, 32, 32), 0.1)
    scores[0, :, :12], scores[1, :, 12:] = 0.6, 0.7
    scores[2, 5:9, 3:7] = 0.9  # 16 of the left 384 pixels
    scores[2, :20, 14:] = 0.8  # 360 of the right 640
    voted = vote(scores)
    assert (voted.argmax(0)[:, :11] == 0).all() and (voted.argmax(0)[:, 13:] == 2).all()
    torch.testing.assert_close(voted.sum(0), torch.ones(32, 32))
    assert (vote(torch.full((3, 32, 32), 0.3))[0] == 1).all()  # the first of equal classes
    ties = torch.zeros(3, 32, 32)
    ties[2, :16], ties[1, 16:] = 1, 1
    assert (vote(ties).argmax(0) == 1).all()


def test_no_cluster_changes_nothing():
    scores = torch.rand(3, 32, 32)
    assert vote(scores, min_points=65) is scores


def test_segments_are_flipped_and_cut_as_the_image():
    scores = torch.zeros(2, 32, 32)
    scores[0, :, :20], scores[1, :, 20:] = 1, 1
    voted = vote(scores)
    assert (voted[0, :, :11] == 1).all() and (voted[1, :, 13:] < 0.7).all()
    voted = vote(scores, 'horizontal')
    assert (voted[0, :, :19] == 1).all() and (voted[1, :, 21:] == 1).all()
    # Without the right half of the network's input the border between the segments is at 48 of 64 pixels.
    voted = vote(scores, padding=(0, 64, 0, 0))
    assert (voted[1, :, :23] < 0.2).all() and (voted[1, :, 25:] == 1).all()


@torch.no_grad()
def test_scores_are_shares_of_segments(build_method, pixels):
    model = build_method('cliptrase', {'test_cfg.keep_scores': True})
    (result,) = model.predict([pixels(160, 224)], [sample((160, 224))])
    assert len(torch.unique(result.seg_logits.data[0])) < 500


def test_scores_times_those_of_the_class_token(build_method, pixels, newer):
    model = build_method('cliptrase', {'decode_head.type': 'ClassTokenHead'})
    tokens = model.encode(pixels(160, 224)[None])
    text = torch.from_numpy(newer['text'])
    patches, cls = (F.normalize(x, dim=-1) @ text.T for x in (tokens.patches, tokens.cls))
    expected = (patches * cls[:, None]).transpose(1, 2).unflatten(2, (10, 14))
    torch.testing.assert_close(model.decode_head(tokens), expected, atol=1e-6, rtol=0)


def test_what_it_does_not_work_with(build_method):
    with pytest.raises(ConfigError, match="mode is 'slide'. Set mode='whole'"):
        build_method('cliptrase', {'test_cfg.mode': 'slide'})
