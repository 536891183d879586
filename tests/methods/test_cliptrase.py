"""CLIPtrase against the official outputs, and its hard decisions against second implementations."""

import numpy as np
import pytest
import torch
from mmseg.structures import SegDataSample
from torch.nn import functional as F

from mmseg_sclip.models.image.geometry import image_axes
from mmseg_sclip.models.image.scores import PatchAffinity
from mmseg_sclip.models.methods.cliptrase.affinity import token_similarity
from mmseg_sclip.models.methods.cliptrase.clustering import dbscan
from mmseg_sclip.models.methods.cliptrase.voting import SegmentVoting, cluster_means, median_filter

SEVEN = ['cat', 'dog', 'bird', 'tree', 'house', 'car', 'sky']
ROWS = {(224, 224): 28, (160, 224): 63, (336, 448): 63, (336, 336): 63}
SEGMENTS = {(224, 224): dict(eps=0.7, min_points=3), (336, 336): dict(eps=1.1, min_points=7)}


def name(size):
    return f'{size[0]}x{size[1]}'


@pytest.mark.parametrize('size', ROWS, ids=name)
def test_tokens_and_affinity(build_method, newer, pixels, thinned, device, size):
    model = build_method('cliptrase').to(device)
    image = pixels(*size)[None].to(device)
    tokens = model.encode(image)
    np.testing.assert_allclose(thinned(tokens.patches[0], size), newer[f'cliptrase/{name(size)}'], atol=5e-5)
    np.testing.assert_allclose(tokens.cls[0].detach().cpu(), newer[f'cliptrase/cls/{name(size)}'], atol=5e-5)
    tower, step = model.backbone.tower, ROWS[size]
    similarity = token_similarity(tower.block_input(11, model.backbone.record(image)))[0, ::step].detach().cpu()
    np.testing.assert_allclose(similarity, newer[f'cliptrase/affinity_rows/{name(size)}'], atol=1e-5)
    if size in SEGMENTS:
        affinity = tokens.affinity[0, ::step].detach().cpu()
        np.testing.assert_allclose(affinity, newer[f'cliptrase/X_rows/{name(size)}'], atol=1e-5)


@pytest.mark.parametrize('parts', [dict(residual=False), dict(ffn=False), dict(keys=True)])
def test_the_tokens_are_those_of_the_last_block(build_method, pixels, parts):
    plain, traced = (
        build_method('sclip', {f'backbone.decoder.{key}': value for key, value in (parts | more).items()})
        for more in ({}, dict(type='LastBlockWithAffinity'))
    )
    image = pixels(160, 224)[None]
    expected, tokens = plain.encode(image), traced.encode(image)
    assert torch.equal(tokens.patches, expected.patches)
    assert (tokens.keys is None) == (expected.keys is None) == ('keys' not in parts)


@pytest.mark.parametrize('size', SEGMENTS, ids=name)
def test_clusters(build_method, newer, pixels, device, size):
    model = build_method('cliptrase').to(device)
    rows = model.encode(pixels(*size)[None].to(device)).affinity[0]
    assert dbscan(rows, **SEGMENTS[size]).tolist() == newer[f'cliptrase/official/clusters/{name(size)}'].tolist()


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


def test_median_with_mirrored_border():
    maps = np.random.default_rng(0).standard_normal((3, 5, 9))
    padded = np.pad(maps, ((0, 0), (3, 3), (3, 3)), mode='symmetric')
    theirs = [[[np.median(each[y : y + 7, x : x + 7]) for x in range(9)] for y in range(5)] for each in padded]
    np.testing.assert_array_equal(median_filter(torch.from_numpy(maps)), theirs)


def test_mean_rows_leave_noise_out():
    rows = torch.tensor([[1.0, 2], [3, 4], [100, 100], [5, 6]])
    means = cluster_means(rows, torch.tensor([1, 0, -1, 1]), 2)
    assert means.tolist() == [[3, 4], [3, 4]]


def halves(flip=None, padding=(0, 0, 0, 0), original=(32, 32)):
    """The affinity of 8 x 8 patches of which the left three columns are alike, and the others."""
    left = torch.arange(64) % 8 < 3
    matrix = (left[:, None] == left).float()
    meta = dict(ori_shape=original, flip=flip is not None, flip_direction=flip, img_padding_size=padding)
    return PatchAffinity(matrix, (8, 8), image_axes((128, 128), meta), (None, None))


def test_pixels_of_a_segment_vote():
    scores = torch.full((3, 32, 32), 0.1)
    scores[0, :, :12], scores[1, :, 12:] = 0.6, 0.7
    scores[2, 5:9, 3:7] = 0.9  # 16 of the left 384 pixels
    scores[2, :20, 14:] = 0.8  # 360 of the right 640
    voted = SegmentVoting()(scores, None, halves())
    assert (voted.argmax(0)[:, :11] == 0).all() and (voted.argmax(0)[:, 13:] == 2).all()
    torch.testing.assert_close(voted.sum(0), torch.ones(32, 32))
    ties = torch.zeros(3, 32, 32)
    ties[2, :16], ties[1, 16:] = 1, 1
    assert (SegmentVoting()(ties, None, halves()).argmax(0) == 1).all()


def test_no_cluster_changes_nothing():
    scores = torch.rand(3, 32, 32)
    assert SegmentVoting(min_points=65)(scores, None, halves()) is scores


def test_segments_are_flipped_and_cut_as_the_image():
    scores = torch.zeros(2, 32, 32)
    scores[0, :, :20], scores[1, :, 20:] = 1, 1
    voted = SegmentVoting()(scores, None, halves())
    assert (voted[0, :, :11] == 1).all() and (voted[1, :, 13:] < 0.7).all()
    voted = SegmentVoting()(scores, None, halves('horizontal'))
    assert (voted[0, :, :19] == 1).all() and (voted[1, :, 21:] == 1).all()
    # Without the right half of the network's input the border between the segments is at 48 of 64 pixels.
    voted = SegmentVoting()(scores, None, halves(padding=(0, 64, 0, 0)))
    assert (voted[1, :, :23] < 0.2).all() and (voted[1, :, 25:] == 1).all()


def test_images_of_a_batch_do_not_meet(build_method, pixels):
    model = build_method('cliptrase')
    model.test_cfg.keep_scores = True
    images = [pixels(160, 224), pixels(224, 160), pixels(160, 224, 5)]
    samples = [SegDataSample(metainfo=dict(ori_shape=tuple(image.shape[1:]))) for image in images]
    with torch.no_grad():
        together = model.predict(images, samples)
        for image, sample in zip(images, together, strict=True):
            alone = model.predict([image], [SegDataSample(metainfo=dict(ori_shape=tuple(image.shape[1:])))])[0]
            assert (alone.pred_sem_seg.data == sample.pred_sem_seg.data).float().mean() > 0.999
            assert len(torch.unique(sample.seg_logits.data[0])) < 500  # shares of segments


def test_scores_times_those_of_the_class_token(build_method, pixels, newer):
    model = build_method('cliptrase', {'decode_head.type': 'ClassTokenHead'})
    tokens = model.encode(pixels(160, 224)[None])
    text = torch.from_numpy(newer['text'])
    patches, cls = (F.normalize(x, dim=-1) @ text.T for x in (tokens.patches, tokens.cls))
    expected = (patches * cls[:, None]).transpose(1, 2).unflatten(2, (10, 14))
    torch.testing.assert_close(model.decode_head(tokens), expected, atol=1e-6, rtol=0)
    with pytest.raises(ValueError, match='needs the class token'):
        model.decode_head(tokens.map)


@pytest.mark.parametrize(
    'options, message',
    [
        ({'test_cfg.mode': 'slide'}, "mode is 'slide'. Set mode='whole'"),
        ({'backbone.decoder.affinity_block': 13}, 'no block 13'),
    ],
)
def test_wrong_settings(build_method, options, message):
    with pytest.raises(ValueError, match=message):
        build_method('cliptrase', options)


def test_voting_without_an_affinity_says_what_to_do(build_method, pixels):
    model = build_method('sclip', {'test_cfg.mode': 'whole', 'test_cfg.refine': [dict(type='SegmentVoting')]})
    with pytest.raises(ValueError, match='LastBlock gives none. Use one that does, such as LastBlockWithAffinity'):
        model.predict([pixels(64, 64)])
