import pytest
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS


@pytest.fixture(scope='module')
def shared_model(mini_clip):
    init_default_scope('mmseg')
    return MODELS.build(
        dict(
            type='SCLIPSegmentor',
            clip=mini_clip,
            backbone=dict(type='CLIPVisionTransformer'),
            decode_head=dict(type='TextSimilarityHead', vocabulary=[['cat'], ['dog'], ['sky']], templates=['{}']),
            test_cfg=dict(crop_size=(96, 96), stride=(48, 48)),
        )
    ).eval()


@pytest.fixture
def model(shared_model):
    """A mini CLIP of 3 blocks with 2 heads and patches of 16, with SCLIP's decoder; not to be changed."""
    return shared_model
