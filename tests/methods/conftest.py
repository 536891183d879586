"""Methods built from their public configs on the synthetic twelve-layer CLIP, and images of the official outputs."""

from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample

ROOT = Path(__file__).resolve().parents[2]
SEVEN = ['cat', 'dog', 'bird', 'tree', 'house', 'car', 'sky']  # a phrase for each row of the goldens' text


@pytest.fixture(scope='session')
def family():
    """Outputs of the official codes of SCLIP's family, by key."""
    return np.load(ROOT / 'tests' / 'data' / 'family_seed0.npz')


@pytest.fixture(scope='session')
def newer():
    """Outputs of the official codes of newer methods, by key."""
    return np.load(ROOT / 'tests' / 'data' / 'newer_seed0.npz')


@pytest.fixture(scope='session')
def pixels(recipe):
    """`pixels(height, width)`: the normalised image (3, H, W) of that size; `offset` makes other ones."""

    def make(height, width, offset=0):
        image = recipe.image(offset + height + width, height, width)[..., ::-1].astype(np.float32)
        mean = np.array((122.771, 116.746, 104.094), np.float32)
        std = np.array((68.501, 66.632, 70.323), np.float32)
        return torch.from_numpy((image - mean) / std).permute(2, 0, 1)

    return make


@pytest.fixture
def build_method(deep_clip, family):
    """`build_method('pearl', {'test_cfg.prob_thd': 0.1})`: the method's public model, with the goldens' text."""

    def build(name, options=None, vocabulary=SEVEN, background_index=None, text=family['text'], clip=deep_clip):
        config = Config.fromfile(ROOT / 'configs' / '_base_' / 'models' / f'{name}.py')
        config.model.clip = clip
        config.model.decode_head.update(vocabulary=vocabulary, background_index=background_index)
        config.merge_from_dict({f'model.{key}': value for key, value in (options or {}).items()})
        model = MODELS.build(config.model).eval()
        model.decode_head.text_bank = torch.from_numpy(text)
        return model

    return build


@pytest.fixture(scope='session')
def thinned():
    """Of tokens (n, ...) the ones that the goldens hold for an image of this size."""
    steps = {(224, 224): 1, (160, 224): 3, (336, 448): 5, (336, 336): 5}
    return lambda tokens, size: tokens[:: steps[size]].detach().cpu().numpy()


@pytest.fixture(scope='session')
def predict():
    """`predict(model, image, (375, 500))`: label map (H, W) and class scores at every 16th pixel, as the goldens."""

    def run(model, image, original):
        model.test_cfg.keep_scores = True
        with torch.no_grad():
            (sample,) = model.predict([image], [SegDataSample(metainfo=dict(ori_shape=original))])
        return sample.pred_sem_seg.data[0].numpy(), sample.seg_logits.data[:, 7::16, 7::16].numpy()

    return run
