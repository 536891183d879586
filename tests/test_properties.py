"""Random images, windows, words and thresholds: what the plain implementation gives.

`HYPOTHESIS_PROFILE=many pytest tests/test_properties.py` tries 500 other examples of each.
"""

import os

import mmseg_sclip  # isort: skip  # noqa: F401  before anything that imports mmseg, which mmcv-lite needs
import pytest
import torch
from helpers import build, sample
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reference import Reference, class_probabilities

from mmseg_sclip.models.image.scores import whole

settings.register_profile('few', deadline=None, max_examples=20, derandomize=True)
settings.register_profile(
    'many', deadline=None, max_examples=500, print_blob=True, suppress_health_check=list(HealthCheck)
)
settings.load_profile(os.environ.get('HYPOTHESIS_PROFILE', 'few'))

PATCH = 16
WORDS = ['cat', 'dog', 'tree', 'sky', 'a red house', 'sea', 'road']
SIDE = st.integers(PATCH, 400) | st.integers(PATCH, 100)  # small ones more often, for speed
CLASSES = st.lists(st.lists(st.sampled_from(WORDS), min_size=1, max_size=3), min_size=1, max_size=6)
CLOSE = 2e-5  # of cosines that two orders of sums give


@st.composite
def examples(draw, mode):
    """An image, the size at which labels are wanted, classes that may share phrases, a background, and `test_cfg`."""
    image = torch.randn(3, draw(SIDE), draw(SIDE), generator=torch.Generator().manual_seed(draw(st.integers(0, 99))))
    sides = image.shape[1:]
    if draw(st.booleans()):  # large areas of one colour, as photographs have them
        image[:, : sides[0] // 2] = image[:, :1, :1]
    crop = [draw(st.integers(max(PATCH, side // 4), 448)) for side in sides]  # few windows: the plain way takes one
    stride = [draw(st.integers(max(1, min(c, (s - c) // 3)), c)) for s, c in zip(sides, crop, strict=True)]
    classes, original = draw(CLASSES), st.integers(1, 400)
    background = draw(st.none() | st.integers(0, len(classes) - 1))
    threshold = st.none() if background is None else st.none() | st.floats(0, 1) | st.floats(0, 0.4)
    test_cfg = dict(
        mode=mode,
        whole_resize=draw(st.sampled_from(['direct', 'input'])),
        logit_scale=draw(st.sampled_from([1, 40, 100, 4000])),
        prob_thd=draw(threshold),
        area_thd=draw(threshold),
        window_batch=draw(st.integers(1, 20)),
        crop_size=tuple(crop),
        stride=tuple(stride),
    )
    return image, draw(st.just(tuple(sides)) | st.tuples(original, original)), classes, background, test_cfg


@pytest.fixture(scope='module')
def network(mini_clip):
    """A segmentor whose copies get the words and the settings of an example."""
    return build(mini_clip, head=dict(vocabulary=WORDS, background_index=None))


@pytest.mark.slow
@pytest.mark.parametrize('mode', ['slide', 'whole'])
@given(data=st.data())
@torch.no_grad()
def test_labels_and_scores_are_those_of_the_plain_way(network, mode, data):
    image, shape, classes, background, test_cfg = data.draw(examples(mode))
    model = network.with_vocabulary(classes, background_index=background, keep_scores=True, **test_cfg)
    (result,), (ours,) = model.predict([image], [sample(shape)]), model.score([image], [sample(shape)])
    torch.testing.assert_close(whole(ours), Reference(model).score(image, shape), atol=CLOSE, rtol=0)
    # From here on with the same cosines, since a large scale makes much of their last bits.
    plain = class_probabilities(whole(ours), [len(phrases) for phrases in classes], model.test_cfg, background)
    assert result.seg_logits.data.shape == (len(classes), *shape)
    torch.testing.assert_close(result.seg_logits.data, plain, atol=4e-6 * test_cfg['logit_scale'], rtol=0)
    best, expected = plain.max(dim=0)
    if test_cfg['prob_thd']:
        expected[best < test_cfg['prob_thd']] = background
    assert torch.equal(result.pred_sem_seg.data[0], expected)
