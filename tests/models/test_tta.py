"""Test-time augmentation against averages written out by hand."""

import pytest
import torch
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch.nn.functional import interpolate

from mmseg_sclip.errors import ConfigError
from mmseg_sclip.models import SCLIPTTAModel
from mmseg_sclip.models.image import scores as scores_module

WORDS = [['cat', 'kitten'], 'dog', 'tree']
SHAPE = (70, 90)


def build(clip, **test_cfg):
    config = dict(
        type='SCLIPSegmentor',
        clip=clip,
        backbone=dict(type='CLIPVisionTransformer'),
        decode_head=dict(type='TextSimilarityHead', vocabulary=WORDS, templates='simple', background_index=0),
        data_preprocessor=dict(type='CLIPDataPreProcessor', mean=(0, 0, 0), std=(1, 1, 1), bgr_to_rgb=False),
        test_cfg={**dict(crop_size=(64, 64), stride=(32, 32), keep_scores=True), **test_cfg},
    )
    return SCLIPTTAModel(MODELS.build(config).eval())


def views_of(image, scales, flips):
    """(3, H, W) images with their metainfo."""
    for scale in scales:
        size = tuple(round(side * scale) for side in image.shape[1:])
        resized = interpolate(image[None], size=size, mode='bilinear')[0]
        for flip in flips:
            meta = dict(ori_shape=SHAPE, img_shape=size, flip=flip is not None, flip_direction=flip)
            yield (resized if flip is None else resized.flip(dict(horizontal=2, vertical=1)[flip])), meta


def batch(images, scales, flips):
    each = [list(views_of(image, scales, flips)) for image in images]
    return dict(
        inputs=[[view[0] for view in views] for views in zip(*each, strict=True)],
        data_samples=[[SegDataSample(metainfo=view[1]) for view in views] for views in zip(*each, strict=True)],
    )


@pytest.fixture
def images():
    torch.manual_seed(0)
    return [torch.randn(3, *SHAPE), torch.randn(3, *SHAPE)]


@torch.no_grad()
def test_one_view_is_the_plain_test(mini_clip, images):
    for settings in (dict(), dict(prob_thd=0.36, area_thd=0.2), dict(refine=[dict(type='PAMR', steps=1)])):
        tta = build(mini_clip, **settings)
        plain = tta.module.test_step(dict(inputs=images, data_samples=batch(images, [1], [None])['data_samples'][0]))
        for ours, expected in zip(tta.test_step(batch(images, [1], [None])), plain, strict=True):
            assert torch.equal(ours.pred_sem_seg.data, expected.pred_sem_seg.data)
            assert torch.equal(ours.seg_logits.data, expected.seg_logits.data)


@pytest.mark.parametrize('mode', ['slide', 'whole'])
@torch.no_grad()
def test_class_scores_are_averaged_before_the_thresholds(mini_clip, images, mode, monkeypatch):
    thresholds = dict(prob_thd=0.36, area_thd=0.2)
    tta, loose = build(mini_clip, mode=mode, **thresholds), build(mini_clip, mode=mode).module
    scales, flips = [0.75, 1.25], [None, 'horizontal', 'vertical']
    results = tta.test_step(batch(images, scales, flips))
    monkeypatch.setattr(scores_module, '_BAND_CPU', 4 * SHAPE[1] * 7)  # several bands
    again = tta.test_step(batch(images, scales, flips))
    for image, result, banded in zip(images, results, again, strict=True):
        total = torch.zeros(3, *SHAPE)
        for view, meta in views_of(image, scales, flips):
            # Each view by itself, its flip undone by hand.
            unflipped = {key: value for key, value in meta.items() if 'flip' not in key}
            (alone,) = loose.predict([view], [SegDataSample(metainfo=unflipped)])
            scores = alone.seg_logits.data
            total += scores.flip(dict(horizontal=2, vertical=1)[meta['flip_direction']]) if meta['flip'] else scores
        mean = total / 6
        counts = mean.argmax(0).flatten().bincount(minlength=3)
        for label in (1, 2):
            if not counts[label] > 0.2 * counts[1:].sum():
                mean[label] = 0
        best, labels = mean.max(0)
        labels[best < 0.36] = 0
        torch.testing.assert_close(result.seg_logits.data, mean, atol=1e-5, rtol=0)
        assert (result.pred_sem_seg.data[0] == labels).float().mean() > 0.999
        assert (result.pred_sem_seg.data == banded.pred_sem_seg.data).float().mean() > 0.999
        assert result.ori_shape == SHAPE
    assert len({tuple(result.pred_sem_seg.data.unique().tolist()) for result in results} | {()}) > 1


def test_images_without_views_are_refused(mini_clip, images):
    with pytest.raises(ConfigError, match='tta_pipeline'):
        build(mini_clip).test_step(dict(inputs=images, data_samples=[SegDataSample()] * 2))
