"""Seven images with label maps, and a config that tests a model on them."""

import copy

import numpy as np
import pytest
from engine.few_images import CLASSES, NAMES
from mmengine.registry import init_default_scope
from PIL import Image

from mmseg_sclip.config import load_config
from mmseg_sclip.engine import fingerprint


@pytest.fixture(autouse=True)
def scope():
    init_default_scope('mmseg')


@pytest.fixture(scope='session')
def data(tmp_path_factory):
    """Seven images with label maps, two of one name in different folders."""
    root, rng = tmp_path_factory.mktemp('data'), np.random.default_rng(0)
    for index, name in enumerate(NAMES):
        for kind, values in (
            ('images', rng.integers(0, 256, (24 + index, 32, 3))),
            ('annotations', rng.integers(0, CLASSES, (24 + index, 32))),
        ):
            path = root / kind / f'{name}.png'
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(values.astype(np.uint8)).save(path)
    return root


@pytest.fixture(scope='session')
def shipped():
    return load_config('sclip_demo', {'test_dataloader.num_workers': 0})


@pytest.fixture
def config(shipped, data, tmp_path, monkeypatch):
    """The demo's config on the seven images, with the model that needs no CLIP."""
    monkeypatch.setattr(fingerprint, 'package_sources', dict)  # the same in all tests
    config = copy.deepcopy(shipped)
    config.model = dict(type='Brightness')
    config.test_dataloader.dataset.update(data_root=str(data), img_suffix='.png')
    config.work_dir = str(tmp_path / 'work')
    return config
