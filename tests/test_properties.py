"""Random images, windows, words and thresholds: what the plain implementation gives, or one clear error.

`HYPOTHESIS_PROFILE=many pytest tests/test_properties.py` tries 500 other examples of each.
"""

import os

import mmseg_sclip  # isort: skip  # noqa: F401  before anything that imports mmseg, which mmcv-lite needs
import pytest
import torch
from helpers import build, sample
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from reference import Reference, class_probabilities

from mmseg_sclip.errors import UserError
from mmseg_sclip.models.image.scores import whole

settings.register_profile('few', deadline=None, max_examples=20, derandomize=True)
settings.register_profile(
    'many', deadline=None, max_examples=500, print_blob=True, suppress_health_check=list(HealthCheck)
)
settings.load_profile(os.environ.get('HYPOTHESIS_PROFILE', 'few'))

PATCH = 16
WORDS = ['cat', 'dog', 'tree', 'sky', 'a red house', 'sea', 'road']
CLOSE = 2e-5  # of cosines that two orders of sums give


@pytest.fixture(scope='module')
def network(mini_clip):
    """A segmentor whose copies get the words and the settings of an example."""
    return build(mini_clip, head=dict(vocabulary=WORDS, background_index=None))


@st.composite
def images(draw, shortest, most=3):
    """(3, H, W) of different sizes, and the sizes at which labels are wanted."""
    made, side = [], st.integers(shortest, 400) | st.integers(shortest, 100)  # small ones more often, for speed
    for _ in range(draw(st.integers(1, most))):
        height, width = draw(side), draw(side)
        image = torch.randn(3, height, width, generator=torch.Generator().manual_seed(draw(st.integers(0, 99))))
        if draw(st.booleans()):  # large areas of one colour, as photographs have them
            image[:, : height // 2] = image[:, :1, :1]
        original = st.integers(1, 400)
        made.append((image, draw(st.just((height, width)) | st.tuples(original, original))))
    return made


@st.composite
def windows(draw, longest, wrong):
    """Crop and stride in pixels; few windows, since the plain way takes one at a time."""
    crop = [draw(st.integers(max(1 if wrong else PATCH, side // 4), 448)) for side in longest]
    stride = [
        draw(st.integers(max(1, min(length, (side - length) // 3)), length + 9 * wrong))
        for side, length in zip(longest, crop, strict=True)
    ]
    return dict(crop_size=tuple(crop), stride=tuple(stride))


@st.composite
def vocabularies(draw, wrong):
    """Phrases of each class, some of them in several classes."""
    phrases = st.lists(st.sampled_from(WORDS), min_size=1, max_size=3)
    classes = draw(st.lists(phrases, min_size=1, max_size=6))
    if wrong and draw(st.booleans()):
        classes[-1] = draw(st.sampled_from([[], [' '], ['cat', '']]))
    return classes


@st.composite
def examples(draw, mode, wrong):
    """A batch, `test_cfg`, a vocabulary and a background; if `wrong`, also such as are refused."""
    batch = draw(images(1 if wrong else PATCH))
    longest = [max(image.shape[axis] for image, _ in batch) for axis in (1, 2)]
    vocabulary = draw(vocabularies(wrong))
    background = draw(st.none() | st.integers(-wrong, len(vocabulary) - 1 + wrong))
    threshold = st.none() | st.floats(0, 1) | st.floats(0, 0.4)
    threshold = threshold if wrong or background is not None else st.none()
    test_cfg = dict(
        mode=mode,
        whole_resize=draw(st.sampled_from(['direct', 'input'])),
        logit_scale=draw(st.sampled_from([1, 40, 100, 4000])),
        prob_thd=draw(threshold),
        area_thd=draw(threshold),
        window_batch=draw(st.integers(1, 20)),
        **draw(windows(longest, wrong)),
    )
    return batch, test_cfg, vocabulary, background


def must_be_refused(batch, test_cfg, vocabulary, background):
    crop, stride = test_cfg['crop_size'], test_cfg['stride']
    return (
        any(step > side for step, side in zip(stride, crop, strict=True))
        or (test_cfg['mode'] == 'slide' and min(crop) < PATCH)
        or any(min(image.shape[1:]) < PATCH for image, _ in batch)
        or not all(phrases and all(map(str.strip, phrases)) for phrases in vocabulary)
        or (background is not None and not 0 <= background < len(vocabulary))
        or (background is None and (test_cfg['prob_thd'] or test_cfg['area_thd'] is not None))
    )


def predict(network, batch, test_cfg, vocabulary, background):
    model = network.with_vocabulary(vocabulary, background_index=background, keep_scores=True, **test_cfg)
    with torch.no_grad():
        return model, model.predict([image for image, _ in batch], [sample(shape) for _, shape in batch])


@pytest.mark.slow
@pytest.mark.parametrize('wrong', [False, True])
@pytest.mark.parametrize('mode', ['slide', 'whole'])
@given(data=st.data())
def test_labels_and_scores_are_those_of_the_plain_way(network, mode, wrong, data):
    example = data.draw(examples(mode, wrong))
    batch, test_cfg, vocabulary, background = example
    if must_be_refused(*example):
        event('refused')
        with pytest.raises(UserError) as error:
            predict(network, *example)
        assert len(str(error.value)) > 40 and '\n' not in str(error.value)
        return
    event('compared')
    model, results = predict(network, *example)
    scale = test_cfg['logit_scale']
    for (image, shape), result in zip(batch, results, strict=True):
        labels, scores = result.pred_sem_seg.data[0], result.seg_logits.data
        assert labels.shape == shape and scores.shape == (len(vocabulary), *shape)
        assert labels.dtype == torch.int64 and labels.min() >= 0 and labels.max() < len(vocabulary)
        assert scores.isfinite().all() and scores.min() >= 0 and scores.max() <= 1 + 1e-6
        cosines = Reference(model).score(image, shape)
        (ours,) = model.score([image], [sample(shape)])
        torch.testing.assert_close(whole(ours), cosines, atol=CLOSE, rtol=0)
        # From here on with the same cosines, since a large scale makes much of their last bits.
        sizes = [len(phrases) for phrases in vocabulary]
        plain = class_probabilities(whole(ours), sizes, model.test_cfg, background)
        torch.testing.assert_close(scores, plain, atol=4 * scale * 1e-6, rtol=0)
        best, expected = plain.max(dim=0)
        if test_cfg['prob_thd']:
            expected[best < test_cfg['prob_thd']] = background
        assert torch.equal(labels, expected)
