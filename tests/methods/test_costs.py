"""The cost of every method is counted, on a device without numbers."""

from pathlib import Path

import pytest
from mmengine.config import Config

from mmseg_sclip.engine.flops import count

ROOT = Path(__file__).resolve().parents[2]
MODELS = sorted((ROOT / 'configs' / '_base_' / 'models').glob('*.py'))


@pytest.mark.parametrize('path', MODELS, ids=lambda path: path.stem)
def test_every_method_is_counted(path):
    config = Config.fromfile(ROOT / 'configs' / 'sclip_voc21.py')
    config.model = Config.fromfile(path).model
    config.model.decode_head.vocabulary = 'voc21'
    if path.stem.endswith('l14'):
        config.model.clip.model_name = 'ViT-L-14-quickgelu'
    cost = count(config, (375, 500))
    assert 0.5 * cost.clip_per_window < cost.per_window < 2 * cost.clip_per_window
