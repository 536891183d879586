import pytest

from mmseg_sclip.models.clip import ClipSource


@pytest.fixture(scope='session')
def source(mini_clip):
    """The towers of the mini CLIP, which the models of all tests share; not to be changed."""
    return ClipSource(**mini_clip)
