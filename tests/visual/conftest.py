import pytest
from helpers import build


@pytest.fixture(scope='session')
def model(mini_clip):
    """A mini CLIP of 3 blocks with 2 heads and patches of 16, with SCLIP's decoder; not to be changed."""
    words = dict(vocabulary=['cat', 'dog', 'sky'], templates=['{}'], background_index=None)
    return build(mini_clip, head=words, crop_size=(96, 96), stride=(48, 48))
