"""The common protocol: what its settings do to the scores of heads that give no cosines."""

import pytest
import torch
from helpers import sample
from mmseg.registry import MODELS

from mmseg_sclip.ablation.protocols import common_protocol
from mmseg_sclip.models.image.scores import PixelScores

SIDE = 10


@pytest.mark.parametrize('method', ['freecp_sclip', 'cliper'])
def test_a_small_object_is_all_of_the_foreground(method, mini_clip):
    model = common_protocol(method, 'voc21').model
    model.clip = mini_clip
    model = MODELS.build(model).eval()
    classes = torch.arange(21).repeat_interleave(torch.tensor(model.decode_head.vocabulary.sizes))
    maps = torch.zeros(len(classes), SIDE, SIDE)
    maps[classes > 0] = 0.01  # nothing is quite impossible
    maps[classes == 15] = 0.02  # of the others a class has the most of all pixels
    maps[(classes == 8).nonzero()[0], 2:4, 2:4] = 0.9
    expected = torch.zeros(SIDE, SIDE, dtype=torch.int64)
    expected[2:4, 2:4] = 8
    eye = torch.eye(SIDE)
    scores = PixelScores(maps.transpose(0, 1), eye, eye, model.decode_head.phrase_of_query)
    image, found = torch.zeros(3, SIDE, SIDE), sample((SIDE, SIDE))
    found = model.label(scores, image, found)
    torch.testing.assert_close(found.pred_sem_seg.data[0], expected)
    # SCLIP's share of the foreground would be that of all pixels where the background is found only afterwards.
    model.test_cfg.area_thd = 0.1
    found = model.label(scores, image, sample((SIDE, SIDE)))
    assert (8 in found.pred_sem_seg.data) == (method == 'freecp_sclip')
