"""The views of test-time augmentation, derived from the plain test's pipeline."""

import pytest
from mmengine.registry import init_default_scope

from mmseg_sclip.datasets.views import DerivedViews, views_of
from mmseg_sclip.errors import ConfigError

LOAD, TRUTH, PACK = dict(type='LoadImageFromFile'), dict(type='LoadLabelMap'), dict(type='PackSegInputs')


@pytest.fixture(autouse=True)
def scope():
    init_default_scope('mmseg')


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
    first, last = dict(type='PhotoMetricDistortion'), dict(type='RandomRotFlip')
    *before, views = views_of([LOAD, first, dict(type='Resize', scale=8), last, TRUTH, PACK])
    assert before == [LOAD, first] and views['transforms'][2:] == [[last], [TRUTH], [PACK]]


def test_label_maps_that_are_resized_have_no_views():
    with pytest.raises(ConfigError, match='loads label maps before it resizes'):
        views_of([LOAD, TRUTH, dict(type='Resize', scale=8), PACK])
    with pytest.raises(ConfigError, match=r"Add dict\(type='SetupHook'\)"):  # the placeholder
        DerivedViews()({})
