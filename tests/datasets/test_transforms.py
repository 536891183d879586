"""Steps of test pipelines that methods need, and the views of test-time augmentation, derived from a pipeline."""

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import DefaultScope, init_default_scope
from mmseg.registry import TRANSFORMS

from mmseg_sclip import paths
from mmseg_sclip.datasets.views import DerivedViews, views_of
from mmseg_sclip.engine import flops
from mmseg_sclip.errors import ConfigError
from mmseg_sclip.images import pack_photograph

LOAD, TRUTH, PACK = dict(type='LoadImageFromFile'), dict(type='LoadLabelMap'), dict(type='PackSegInputs')


def run(step, height, width, **more):
    sample = dict(img=np.zeros((height, width, 3), np.uint8), img_shape=(height, width), ori_shape=(height, width))
    return TRANSFORMS.build(step)({**sample, **more})


@pytest.mark.parametrize(
    'size, expected',
    [
        ((375, 500), (336, 448)),
        ((500, 375), (448, 336)),
        ((100, 146), (336, 496)),  # 490.6 pixels are 30.66 patches
        ((100, 137), (336, 464)),  # 460.3 pixels are 28.77 patches
        ((20, 21), (336, 352)),  # 352.8 pixels are 22.05 patches
    ],
)
def test_sides_of_whole_patches(size, expected):
    result = run(dict(type='ResizeToPatches', short_side=336), *size)
    assert result['img'].shape[:2] == result['img_shape'] == expected and result['ori_shape'] == size


def test_whole_patches_of_another_size_and_half_ones():
    def shape(height, width, **settings):
        return run(dict(type='ResizeToPatches', **settings), height, width)['img_shape']

    assert shape(100, 102, short_side=336, patch_size=14) == (336, 336)
    assert shape(100, 300, short_side=8) == (16, 32)
    assert shape(24, 40, short_side=24) == (32, 48)  # halves go upward: Python would round 2.5 to 2
    assert shape(39, 39, short_side=39) == (32, 32)
    with pytest.raises(ConfigError, match='short_side'):
        TRANSFORMS.build(dict(type='ResizeToPatches', short_side=0))


def test_the_centre_is_scored_at_its_size():
    truth = np.zeros((9, 20), np.uint8)
    truth[:, 7:12] = 1
    image = np.repeat(truth[..., None], 3, axis=2)
    step = dict(type='ScoreCentre', crop_size=5)
    result = run(step, 9, 20, img=image, gt_seg_map=truth, sample_idx=0)
    # Rows 2 to 6 and columns 8 to 12 of the 9 x 20: Python rounds 7.5 to 8.
    assert np.array_equal(result['gt_seg_map'], truth[2:7, 8:13])
    assert np.array_equal(result['img'], image[2:7, 8:13])
    assert result['ori_shape'] == result['img_shape'] == (5, 5)


def test_photographs_are_left_whole():
    pipeline = Config.fromfile(paths.config_path('cliptrase_voc20')).test_pipeline
    with DefaultScope.overwrite_default_scope('mmseg'):
        packed = pack_photograph(pipeline, np.zeros((375, 500, 3), np.uint8), 'image')
    assert packed['inputs'].shape == (3, 336, 448)
    assert packed['data_samples'].ori_shape == (375, 500)


def test_costs_are_those_of_the_resized_image():
    config = Config.fromfile(paths.config_path('gem_voc20'))
    assert flops.network_input(config, (375, 500)) == (448, 448)
    config.test_dataloader.dataset.pipeline[2] = dict(type='ResizeToPatches', short_side=336)
    assert flops.network_input(config, (333, 500)) == (336, 512)


PIXELS = [(1535, 252), (2047, 336), (2558, 420), (3070, 504)]


@pytest.mark.parametrize(
    'resize, key, values',
    [
        (dict(type='Resize', scale=(2047, 336), keep_ratio=True), 'scale', PIXELS),
        (dict(type='Resize', scale=101, backend='pillow'), 'scale', [75, 101, 126, 151]),
        (dict(type='Resize', scale_factor=2.0), 'scale_factor', [1.5, 2.0, 2.5, 3.0]),
        (dict(type='Resize', scale_factor=(2, 4)), 'scale_factor', [(1.5, 3), (2, 4), (2.5, 5), (3, 6)]),
        (dict(type='ResizeToPatches', short_side=335), 'short_side', [251, 335, 418, 502]),
        (dict(type='ResizeShortestEdge', scale=10, max_size=9), 'scale', [7, 10, 12, 15]),
        (None, 'scale_factor', [0.75, 1.0, 1.25, 1.5]),
    ],
)
def test_each_scale_with_and_without_a_flip(resize, key, values):
    init_default_scope('mmseg')
    steps = [LOAD, dict(type='CheckImageFile'), *([resize] if resize else []), TRUTH, PACK]
    *before, views = views_of(steps)
    sizes, flips, *after = views['transforms']
    assert before == steps[:2] and after == [[TRUTH], [PACK]]
    assert [size[key] for size in sizes] == values
    for number, size in enumerate(sizes):
        rest = {**(resize or dict(type='Resize', keep_ratio=True)), key: values[number]}
        if 'max_size' in rest:
            rest['max_size'] = [6, 9, 11, 13][number]
        assert size == rest
    assert flips == [dict(type='RandomFlip', prob=prob, direction='horizontal') for prob in (0.0, 1.0)]


def test_other_steps_keep_their_places():
    init_default_scope('mmseg')
    first, last, resize = dict(type='PhotoMetricDistortion'), dict(type='RandomRotFlip'), dict(type='Resize', scale=8)
    *before, views = views_of([LOAD, first, resize, last, TRUTH, PACK])
    assert before == [LOAD, first] and views['transforms'][2:] == [[last], [TRUTH], [PACK]]
    with pytest.raises(ConfigError, match='loads label maps before it resizes'):
        views_of([LOAD, TRUTH, resize, PACK])
    with pytest.raises(ConfigError, match=r"Add dict\(type='SetupHook'\)"):  # the placeholder
        DerivedViews()({})
