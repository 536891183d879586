"""Methods built from their public configs on the synthetic twelve-layer CLIP, and images of the official outputs."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers import sample
from mmengine.config import Config
from mmseg.registry import MODELS

from mmseg_sclip.models import BlockInput, Record
from mmseg_sclip.models.clip import ClipSource

ROOT = Path(__file__).resolve().parents[2]
SEVEN = ['cat', 'dog', 'bird', 'tree', 'house', 'car', 'sky']  # a phrase for each row of the goldens' text
# Every so many tokens are in the goldens of an image of this size.
STEPS = {(224, 224): 1, (160, 224): 3, (336, 448): 5, (336, 336): 5}


@pytest.fixture(scope='session')
def family():
    """Outputs of the official codes of SCLIP's family, by key."""
    return np.load(ROOT / 'tests' / 'data' / 'family_seed0.npz')


@pytest.fixture(scope='session')
def newer():
    """Outputs of the official codes of newer methods, by key."""
    return np.load(ROOT / 'tests' / 'data' / 'newer_seed0.npz')


@pytest.fixture(scope='session')
def extra():
    """Outputs of the official codes of methods with a second network, by key."""
    return np.load(ROOT / 'tests' / 'data' / 'extra_seed0.npz')


@pytest.fixture(scope='session')
def peers():
    """Outputs of the official codes of the trained peers, by key."""
    return np.load(ROOT / 'tests' / 'data' / 'peers_seed0.npz')


@pytest.fixture(scope='session')
def pixels(recipe):
    """`pixels(height, width)`: the normalised image (3, H, W) of that size; `offset` makes other ones."""

    def make(height, width, offset=0):
        image = recipe.image(offset + height + width, height, width)[..., ::-1].astype(np.float32)
        mean = np.array((122.771, 116.746, 104.094), np.float32)
        std = np.array((68.501, 66.632, 70.323), np.float32)
        return torch.from_numpy((image - mean) / std).permute(2, 0, 1)

    return make


@pytest.fixture(scope='session')
def wide(pixels):
    """Two windows (2, 3, 96, 160): 6 x 10 patches."""
    return torch.stack([pixels(96, 160), pixels(96, 160, offset=1)])


@pytest.fixture(scope='session')
def deep_source(deep_clip):
    """The towers that all models of `build_method` share."""
    return ClipSource(**deep_clip)


@pytest.fixture
def build_method(deep_source, family):
    """`build_method('pearl', {'test_cfg.prob_thd': 0.1})`: the method's public model, with the goldens' text."""

    def build(name, options=None, vocabulary=SEVEN, background_index=None, text=family['text'], clip=None):
        config = Config.fromfile(ROOT / 'configs' / '_base_' / 'models' / f'{name}.py')
        config.model.decode_head.update(vocabulary=vocabulary, background_index=background_index)
        config.merge_from_dict({f'model.{key}': value for key, value in (options or {}).items()})
        model = MODELS.build({**config.model, 'clip': clip or deep_source}).eval().cpu()
        model.decode_head.text_bank = torch.from_numpy(text)
        return model

    return build


@pytest.fixture(scope='session')
def thinned():
    """Of tokens (n, ...) the ones that the goldens hold for an image of this size."""
    return lambda tokens, size: tokens[:: STEPS[size]].detach().cpu().numpy()


@pytest.fixture(scope='session')
def check_tokens(pixels, thinned):
    """`check_tokens(model, family, 'gem/iter1')`: patches are those of the goldens, for each size that they have."""

    @torch.no_grad()
    def check(model, goldens, key, atol=5e-5):
        sizes = [size for size in STEPS if f'{key}/{size[0]}x{size[1]}' in goldens]
        assert len(sizes) > 1
        for size in sizes:
            tokens = model.encode(pixels(*size)[None].to(next(model.parameters()).device)).patches[0]
            np.testing.assert_allclose(thinned(tokens, size), goldens[f'{key}/{size[0]}x{size[1]}'], atol=atol)

    return check


@pytest.fixture(scope='session')
def predict():
    """`predict(model, image, (375, 500))`: label map (H, W) and class scores at every 16th pixel, as the goldens."""

    @torch.no_grad()
    def run(model, image, original):
        model.test_cfg.keep_scores = True
        (result,) = model.predict([image], [sample(original)])
        return result.pred_sem_seg.data[0].numpy(), result.seg_logits.data[:, 7::16, 7::16].numpy()

    return run


@pytest.fixture(scope='session')
def record_of():
    """`record_of((2, 3), {11: x})`: a record of these outputs and no tower."""
    return lambda grid, outputs=(): Record(SimpleNamespace(prefix=1), None, grid, dict(outputs))


@pytest.fixture
def block(record_of):
    """A block of two images, two heads of four channels, and 2 x 3 patches, in float64."""
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 2, 2, 7, 4, dtype=torch.float64)
    q[1] *= 3  # the two images have vectors of other lengths
    x = torch.randn(2, 7, 8, dtype=torch.float64) * torch.tensor([1.0, 4.0])[:, None, None]
    return BlockInput(q, k, v, x, 0.5, record_of((2, 3)))
