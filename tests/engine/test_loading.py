"""What official checkpoints hold is read; models are built as MMSegmentation builds them."""

import copy
import sys
import types
import zipfile
from datetime import datetime

import numpy as np
import pytest
import torch
from addict import Dict
from mmengine.config import Config, ConfigDict
from mmengine.logging import MessageHub

from mmseg_sclip.engine.loading import build_model, read_checkpoint
from mmseg_sclip.errors import BadFileError


@pytest.fixture
def settings(monkeypatch):
    """The class of settings of MMCV 0.x, which is not installed."""

    class ConfigDict(Dict):
        def __missing__(self, name):
            raise KeyError(name)

        def __getattr__(self, name):
            try:
                return super().__getattr__(name)
            except KeyError:
                raise AttributeError(name) from None

    ConfigDict.__module__, ConfigDict.__qualname__ = 'mmcv.utils.config', 'ConfigDict'
    monkeypatch.setitem(sys.modules, 'mmcv.utils.config', module := types.ModuleType('mmcv.utils.config'))
    module.ConfigDict = ConfigDict
    return ConfigDict


@pytest.mark.skipif(not hasattr(torch.serialization, 'safe_globals'), reason='names can be allowed since torch 2.5')
@pytest.mark.parametrize('numpy_2', [True, False])
def test_what_official_checkpoints_hold_is_read(tmp_path, monkeypatch, settings, numpy_2):
    """What MMEngine's and MMCV's runners save, with both names of NumPy's module."""
    hub = MessageHub('a training')
    for loss in (3.5, 1.25):
        hub.update_scalar('train/loss', loss)
    hub.update_info('best_score', np.float32(18.25))
    values = dict(
        PALETTE=np.arange(6, dtype=np.uint8).reshape(2, 3),
        columns=np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        other_order=np.array([1, 2], '>i4'),
        names=np.array(['grass', 'käse']),
        flag=np.bool_(True),
        time=datetime(2022, 5, 17, 12),
        CLASSES=('a', 'b'),
    )
    meta = dict(values, cfg=settings(model=dict(items=[dict(a=1)])), newer=ConfigDict(keys=dict(a=1)))
    state_dict = torch.nn.Linear(2, 2).state_dict()
    allowed = torch.serialization.get_safe_globals()
    saved, path = tmp_path / 'saved.pth', tmp_path / 'checkpoint.pth'
    torch.save(dict(meta=meta, state_dict=state_dict, message_hub=hub.state_dict()), saved)
    with zipfile.ZipFile(saved) as old, zipfile.ZipFile(path, 'w') as new:
        for name in old.namelist():
            content = old.read(name).replace(b'numpy._core', b'numpy.core')
            new.writestr(name, content.replace(b'numpy.core', b'numpy._core') if numpy_2 else content)
    monkeypatch.delitem(sys.modules, 'mmcv.utils.config')

    read = read_checkpoint(str(path))

    assert set(torch.serialization.get_safe_globals()) == set(allowed)
    assert read['state_dict']._metadata == state_dict._metadata
    assert all(torch.equal(read['state_dict'][key], value) for key, value in state_dict.items())
    for key, value in values.items():
        assert np.array_equal(read['meta'][key], value), key
    assert (read['meta']['cfg'], read['meta']['newer']) == (dict(model=dict(items=[dict(a=1)])), dict(keys=dict(a=1)))
    assert read['message_hub']['runtime_info']['best_score'] == np.float32(18.25)
    assert list(read['message_hub']['log_scalars']['train/loss'].values['_log_history']) == [3.5, 1.25]

    monkeypatch.delattr(torch.serialization, 'safe_globals')
    with pytest.raises(BadFileError, match=r'asks for [\w.]+, which torch 2.5 or newer can read'):
        read_checkpoint(str(path))


def test_a_model_of_mmsegmentation_is_built_from_its_config_twice():
    """Its segmentor moves `pretrained` into the backbone's config, and refuses to find it there."""
    head = dict(type='FCNHead', in_channels=64, channels=4, num_convs=1, concat_input=False, num_classes=2)
    backbone = dict(type='ResNetV1c', depth=18, base_channels=8)
    model = dict(type='EncoderDecoder', pretrained='open-mmlab://resnet18_v1c', backbone=backbone, decode_head=head)
    config = Config(dict(model=model))
    before = copy.deepcopy(config.model.to_dict())
    for _ in range(2):
        build_model(config, 'cpu')
    assert config.model.to_dict() == before
