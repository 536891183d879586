"""Test-time augmentation against averages written out by hand."""

import pytest
import torch
from helpers import build, sample
from mmseg.registry import MODELS
from torch.nn.functional import interpolate

from mmseg_sclip.errors import ConfigError
from mmseg_sclip.models import Refinement, SCLIPTTAModel

SHAPE = (70, 90)


@MODELS.register_module()
class ToyProduct(Refinement):
    """The product with the unit matrix, which autocast would round."""

    def forward(self, scores, image):
        return torch.eye(scores.shape[1]) @ scores


def tta_of(clip, **test_cfg):
    own = dict(type='CLIPDataPreProcessor', mean=(0, 0, 0), std=(1, 1, 1), bgr_to_rgb=False)
    return SCLIPTTAModel(build(clip, data_preprocessor=own, keep_scores=True, **test_cfg))


def views_of(image, scales, flips):
    """(3, H, W) images with their metainfo."""
    for scale in scales:
        size = tuple(round(side * scale) for side in image.shape[1:])
        resized = interpolate(image[None], size=size, mode='bilinear')[0]
        for flip in flips:
            meta = dict(img_shape=size, flip=flip is not None, flip_direction=flip)
            yield (resized if flip is None else resized.flip(dict(horizontal=2, vertical=1)[flip])), meta


def batch(images, scales=(1,), flips=(None,)):
    each = [list(views_of(image, scales, flips)) for image in images]
    return dict(
        inputs=[[view for view, _ in views] for views in zip(*each, strict=True)],
        data_samples=[[sample(SHAPE, **meta) for _, meta in views] for views in zip(*each, strict=True)],
    )


@pytest.fixture
def images():
    torch.manual_seed(0)
    return [torch.randn(3, *SHAPE), torch.randn(3, *SHAPE)]


@torch.no_grad()
def test_one_view_is_the_plain_test(source, images):
    tta = tta_of(source, prob_thd=0.36, area_thd=0.2, refine=[dict(type='PAMR', steps=1)])
    plain = tta.module.test_step(dict(inputs=images, data_samples=batch(images)['data_samples'][0]))
    for ours, expected in zip(tta.test_step(batch(images)), plain, strict=True):
        assert torch.equal(ours.pred_sem_seg.data, expected.pred_sem_seg.data)
        assert torch.equal(ours.seg_logits.data, expected.seg_logits.data)
    with pytest.raises(ConfigError, match='tta_pipeline'):
        tta.test_step(dict(inputs=images, data_samples=[sample(SHAPE)] * 2))


@torch.no_grad()
def test_class_scores_are_averaged_before_the_thresholds(source, images):
    tta, loose = tta_of(source, prob_thd=0.36, area_thd=0.2), tta_of(source).module
    scales, flips = [0.75, 1.25], [None, 'horizontal', 'vertical']
    results = tta.test_step(batch(images, scales, flips))
    for image, result in zip(images, results, strict=True):
        mean = torch.zeros(3, *SHAPE)
        for view, meta in views_of(image, scales, flips):
            (alone,) = loose.predict([view], [sample(SHAPE)])  # each view by itself, its flip undone by hand
            scores = alone.seg_logits.data
            mean += (
                scores.flip(dict(horizontal=2, vertical=1)[meta['flip_direction']]) if meta['flip'] else scores
            ) / 6
        counts = mean.argmax(0).flatten().bincount(minlength=3)
        for label in (1, 2):
            mean[label] *= bool(counts[label] > 0.2 * counts[1:].sum())
        best, labels = mean.max(0)
        labels[best < 0.36] = 0
        torch.testing.assert_close(result.seg_logits.data, mean, atol=1e-5, rtol=0)
        assert (result.pred_sem_seg.data[0] == labels).float().mean() > 0.999
        assert result.ori_shape == SHAPE
    assert len(results[0].pred_sem_seg.data.unique()) > 1


@torch.no_grad()
def test_it_stays_in_float32_after_the_network(mini_clip, images):
    tta = tta_of(dict(mini_clip, precision='fp16'), refine=[dict(type='ToyProduct')])
    expected = tta.test_step(batch(images[:1], flips=[None, 'horizontal']))[0].seg_logits.data
    with torch.autocast('cpu', torch.bfloat16):
        ours = tta.test_step(batch(images[:1], flips=[None, 'horizontal']))[0].seg_logits.data
    assert torch.equal(ours, expected)
