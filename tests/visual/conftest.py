import pytest
from helpers import build


@pytest.fixture(scope='session')
def small(mini_clip):
    """`small(attention, **test_cfg)`: a mini CLIP of 3 blocks with 2 heads and patches of 16, in a `LastBlock`."""
    words = dict(vocabulary=['cat', 'dog', 'sky'], templates=['{}'], background_index=None)
    windows = dict(crop_size=(96, 96), stride=(48, 48))
    return lambda attention=None, **test_cfg: build(mini_clip, attention, head=words, **windows, **test_cfg)


@pytest.fixture(scope='session')
def model(small):
    """With SCLIP's attention; not to be changed."""
    return small()
