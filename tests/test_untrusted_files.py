"""Nothing that is read runs code: a pickle that would make a file is put into every place where files are read."""

import copy
import io
import pickle
import re
import sys
import types
import zipfile
from collections import OrderedDict
from datetime import datetime

import mmseg_sclip  # isort: skip  # noqa: F401  before anything that imports mmseg, which mmcv-lite needs
import numpy as np
import pytest
import torch
from addict import Dict
from mmengine.config import Config, ConfigDict
from mmengine.logging import MessageHub
from torch import nn

from mmseg_sclip.apis import read_photograph
from mmseg_sclip.cli import main
from mmseg_sclip.engine.loading import build_model, read_checkpoint
from mmseg_sclip.errors import BadFileError
from mmseg_sclip.files import MARK
from mmseg_sclip.images import read_evaluated
from mmseg_sclip.models.clip.weights import read_weights
from mmseg_sclip.paths import PACKAGE

pytestmark = pytest.mark.filterwarnings('ignore:.torch.jit:FutureWarning', 'ignore:Detected pickle:UserWarning')


class Payload:
    """A pickle of it makes a file when it is read."""

    def __init__(self, made):
        self.made = made

    def __reduce__(self):
        return open, (str(self.made), 'w')


@pytest.fixture
def payload(tmp_path):
    """A payload that works, which must not have been read when the test is over."""
    payload = Payload(tmp_path / 'made')
    pickle.loads(pickle.dumps(payload)).close()
    payload.made.unlink()
    yield payload
    assert not payload.made.exists()


def archive(payload):
    """A TorchScript archive with the payload among its attributes."""
    original, changed = io.BytesIO(), io.BytesIO()
    torch.jit.save(torch.jit.script(nn.Linear(2, 2)), original)
    with zipfile.ZipFile(original) as old, zipfile.ZipFile(changed, 'w') as new:
        for name in old.namelist():
            new.writestr(name, pickle.dumps(payload, 2) if name.endswith('/data.pkl') else old.read(name))
    return changed.getvalue()


def saved(payload, **how):
    """What `torch.save` writes of a checkpoint."""
    file = io.BytesIO()
    content = dict(meta=dict(software=MARK), state_dict=dict(weight=torch.zeros(2), other=payload))
    torch.save(content, file, **how)
    return file.getvalue()


FORMS = dict(
    zip=saved,
    old=lambda payload: saved(payload, _use_new_zipfile_serialization=False),
    plain=lambda payload: pickle.dumps(dict(state_dict=payload)),
    archive=archive,
)
READERS = {'a.pt': read_weights, 'a.safetensors': read_weights, 'a.pth': lambda path: read_checkpoint(str(path))}
READERS |= {'a.tif': read_photograph, 'a.png': lambda path: read_evaluated(str(path))}


@pytest.mark.parametrize('form', FORMS)
@pytest.mark.parametrize('name', READERS)
def test_readers(tmp_path, payload, name, form):
    (tmp_path / name).write_bytes(FORMS[form](payload))
    with pytest.raises(BadFileError, match=name):
        READERS[name](tmp_path / name)


class Call:
    """A pickle of it calls `function(*arguments)` when it is read."""

    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call[0], self.call[1:]


# Misuses of names that checkpoints may hold, as NumPy pickles its own.
NUMBER, ARRAY = np.float32(1).__reduce__()[0], np.zeros(1).__reduce__()[0]
ALLOWED = {
    'numpy.dtype[O8]': lambda payload: np.array([payload], dtype=object),
    'numpy.dtype[O]': lambda payload: Call(NUMBER, Call(np.dtype, 'O'), pickle.dumps(payload)),
    'numpy.generic[objects]': lambda payload: Call(NUMBER, np.dtype('f4'), 'text'),
    'numpy.ndarray[subclass]': lambda payload: Call(ARRAY, OrderedDict, (0,), b'b'),
    'builtins.getattr': lambda payload: Call(getattr, torch.Tensor, 'numpy'),
}


@pytest.mark.skipif(not hasattr(torch.serialization, 'safe_globals'), reason='no name is allowed before torch 2.5')
@pytest.mark.parametrize('named', ALLOWED)
def test_allowed_names_are_no_way_in(tmp_path, payload, named):
    path = tmp_path / 'checkpoint.pth'
    path.write_bytes(saved(ALLOWED[named](payload)))
    with pytest.raises(BadFileError, match='more than tensors') as refusal:
        read_checkpoint(str(path))
    assert f'asks for {named})' in str(refusal.value)


INIT = 'model.backbone.init_cfg'
PLACES = {
    'argument': 'test sclip_demo PATH --cfg-options test_dataloader.dataset.count=3',
    'load_from': 'test sclip_demo --cfg-options load_from=PATH test_dataloader.dataset.count=3',
    'training': 'train sclip_learned_demo --cfg-options load_from=PATH train_dataloader.dataset.count=4',
    'unfinished': 'train sclip_learned_demo --resume --cfg-options train_dataloader.dataset.count=4',
    'init_cfg': f'train sclip_learned_demo --cfg-options {INIT}.type=Pretrained {INIT}.checkpoint=PATH',
    'attention': 'attention --demo --checkpoint PATH --out-dir out',
}


@pytest.mark.parametrize('place', [pytest.param(name, marks=pytest.mark.slow) for name in PLACES])
def test_checkpoints_through_the_commands(fresh_engine, tmp_path, monkeypatch, capfd, payload, place):
    monkeypatch.chdir(tmp_path)
    argv = [word.replace('PATH', str(tmp_path / 'unfinished.pth')) for word in PLACES[place].split()]
    (tmp_path / 'unfinished.pth').write_bytes(saved(payload))
    assert main.main([*argv[:2], *['--work-dir', '.'] * (place != 'attention'), *argv[2:], '--device', 'cpu']) == 1
    last = capfd.readouterr().err.rstrip('\n').rpartition('\n')[2]
    assert ('init_cfg' if place == 'init_cfg' else 'more than tensors') in last


def test_no_other_reader_of_pickles_stands_in_the_package():
    names = r'torch\.load|jit\.load|np\.load|pickle\.loads?|Unpickler|load_checkpoint'
    readers = re.compile(rf'(?:{names})\(([^`\n]*)$', re.M)
    files = [*PACKAGE.rglob('*.py'), *PACKAGE.parent.glob('tools/**/*.py')]
    found = sorted((path.name, given) for path in files for given in readers.findall(path.read_text()))
    assert found == [
        ('region_files.py', 'io.BytesIO(content), allow_pickle=False)'),
        ('runner.py', "self, filename: str, map_location='cpu', strict=False, **kwargs) -> dict:"),
        ('torchscript.py', 'file).load()'),
        ('torchscript.py', 'pickle.Unpickler):'),
        ('train_demo_clip.py', 'resume, weights_only=True)'),
        ('vectors.py', 'io.BytesIO(path.read_bytes())).load()'),
        ('vectors.py', 'pickle.Unpickler):'),
        ('weights.py', "file, map_location='cpu', weights_only=True, mmap=mmap)"),
    ]


@pytest.mark.skipif(not hasattr(torch.serialization, 'safe_globals'), reason='names can be allowed since torch 2.5')
@pytest.mark.parametrize('numpy_2', [True, False])
def test_what_official_checkpoints_hold_is_read(tmp_path, monkeypatch, numpy_2):
    """What MMEngine's and MMCV's runners save, with both names of NumPy's module."""
    settings = type('ConfigDict', (Dict,), dict(__module__='mmcv.utils.config'))  # of MMCV 0.x, not installed
    monkeypatch.setitem(sys.modules, 'mmcv.utils.config', types.SimpleNamespace(ConfigDict=settings))
    hub = MessageHub('a training')
    for loss in (3.5, 1.25):
        hub.update_scalar('train/loss', loss)
    hub.update_info('best_score', np.float32(18.25))
    values = dict(PALETTE=np.arange(6, dtype=np.uint8).reshape(2, 3), other_order=np.array([1, 2], '>i4'))
    values.update(columns=np.asfortranarray(np.arange(6.0).reshape(2, 3)), names=np.array(['grass', 'käse']))
    values.update(flag=np.bool_(True), time=datetime(2022, 5, 17, 12), CLASSES=('a', 'b'))
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
