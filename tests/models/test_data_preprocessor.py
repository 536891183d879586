import numpy as np
import pytest
import torch
from mmseg.registry import MODELS

from mmseg_sclip.models import CLIPDataPreProcessor


def test_bgr_to_rgb_and_normalise_without_padding():
    processor = CLIPDataPreProcessor(mean=(1, 2, 3), std=(2, 4, 5))
    small = torch.tensor([30, 20, 10], dtype=torch.uint8).view(3, 1, 1)  # blue 30, green 20, red 10
    large = torch.zeros(3, 4, 6, dtype=torch.uint8)
    out = processor(dict(inputs=[small, large]))
    assert [tuple(image.shape) for image in out['inputs']] == [(3, 1, 1), (3, 4, 6)]
    np.testing.assert_allclose(out['inputs'][0].flatten(), [(10 - 1) / 2, (20 - 2) / 4, (30 - 3) / 5])
    assert out['data_samples'] is None


def test_rgb_images_keep_their_order():
    out = CLIPDataPreProcessor((0, 0, 0), (1, 1, 1), bgr_to_rgb=False)(dict(inputs=torch.arange(3.0).view(1, 3, 1, 1)))
    assert out['inputs'][0].flatten().tolist() == [0, 1, 2]


@pytest.mark.parametrize('shape', [(1, 8, 8), (4, 8, 8), (8, 8)])
def test_other_channels_are_refused(shape):
    with pytest.raises(ValueError, match=r'must be \(3, H, W\)'):
        CLIPDataPreProcessor((0, 0, 0), (1, 1, 1))(dict(inputs=[torch.zeros(shape)]))


def test_mmsegs_own_preprocessor_wins_and_its_padding_is_undone(mini_clip):
    own = dict(
        type='SegDataPreProcessor',
        mean=[122.771, 116.746, 104.094],
        std=[68.501, 66.632, 70.323],
        bgr_to_rgb=True,
        size_divisor=32,
        test_cfg=dict(size_divisor=32),
    )
    config = dict(
        type='SCLIPSegmentor',
        clip=mini_clip,
        backbone=dict(type='CLIPVisionTransformer'),
        decode_head=dict(type='TextSimilarityHead', vocabulary=['cat', 'dog'], templates='simple'),
        test_cfg=dict(mode='whole', whole_resize='input'),
    )
    from mmseg.structures import SegDataSample

    data = lambda: dict(  # noqa: E731
        inputs=[torch.randint(0, 256, (3, 80, 70), dtype=torch.uint8, generator=torch.manual_seed(0))],
        data_samples=[SegDataSample(metainfo=dict(ori_shape=(80, 70), img_shape=(80, 70)))],
    )
    with torch.no_grad():
        (padded,) = MODELS.build(dict(config, data_preprocessor=own)).eval().test_step(data())
    assert padded.metainfo['img_padding_size'] == (0, 26, 0, 16)
    assert padded.pred_sem_seg.data.shape == (1, 80, 70)
