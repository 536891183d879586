"""Nothing that is read runs code: a pickle that would make a file is put into every place where files are read."""

import io
import pickle
import re
import zipfile
from collections import OrderedDict

import mmseg_sclip  # isort: skip  # noqa: F401  before anything that imports mmseg, which mmcv-lite needs
import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from torch import nn

from mmseg_sclip.apis import SCLIPInferencer, read_photograph
from mmseg_sclip.cli import attention, main
from mmseg_sclip.config import load_config
from mmseg_sclip.engine.loading import read_checkpoint
from mmseg_sclip.errors import BadFileError
from mmseg_sclip.files import MARK
from mmseg_sclip.images import read_evaluated
from mmseg_sclip.models.clip.weights import read_weights
from mmseg_sclip.paths import PACKAGE
from mmseg_sclip.visual.methods import Method, model_of

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


def array(payload):
    """What `np.save` writes of objects."""
    file = io.BytesIO()
    np.save(file, np.array([payload], dtype=object), allow_pickle=True)
    return file.getvalue()


FORMS = dict(
    zip=saved,
    old=lambda payload: saved(payload, _use_new_zipfile_serialization=False),
    plain=lambda payload: pickle.dumps(dict(state_dict=payload)),
    archive=archive,
    npy=array,
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

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def log_of(payload):
    log = HistoryBuffer([1.0], [1])
    log.payload = payload
    return log


# Misuses of names that checkpoints may hold, as NumPy and MMEngine pickle their own.
NUMBER, ARRAY = np.float32(1).__reduce__()[0], np.zeros(1).__reduce__()[0]
ALLOWED = {
    'io.open': log_of,
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


@pytest.fixture
def refused(fresh_engine, tmp_path, capfd):
    """`refused(*argv, options=())` runs a command, which must end with one plain message, and returns that."""

    def run(*argv, options=()):
        options = ['--device', 'cpu', '--work-dir', tmp_path / 'work', '--cfg-options', *options]
        assert main.main([*map(str, [*argv, *options])]) == 1
        return capfd.readouterr().err.rstrip('\n').rpartition('\n')[2]

    return run


@pytest.fixture
def checkpoint(tmp_path, payload):
    """A path; the checkpoint of it has the payload."""
    (tmp_path / 'work').mkdir()
    (tmp_path / 'work' / 'iter_1.pth').write_bytes(saved(payload))
    return tmp_path / 'work' / 'iter_1.pth'


@pytest.mark.slow
@pytest.mark.parametrize('how', ['argument', 'load_from', 'an address', 'resume'])
def test_checkpoints_of_a_test(refused, tmp_path, checkpoint, how):
    config = load_config('sclip_demo')
    if how == 'resume':  # MMEngine's own takes the last checkpoint of the work folder
        config.resume = True
        checkpoint.with_name('last_checkpoint').write_text(str(checkpoint))
    elif how != 'argument':
        config.load_from = str(checkpoint) if how == 'load_from' else checkpoint.as_uri()
    config.dump(tmp_path / 'config.py')
    argv = ['test', tmp_path / 'config.py', *[checkpoint] * (how == 'argument')]
    assert 'more than tensors' in refused(*argv, options=['test_dataloader.dataset.count=3'])


@pytest.mark.slow
@pytest.mark.parametrize('how', ['load_from', 'unfinished', 'init_cfg'])
def test_checkpoints_of_a_training(refused, checkpoint, how):
    options = ['train_dataloader.dataset.count=4']
    if how == 'unfinished':
        checkpoint.rename(checkpoint.with_name('unfinished.pth'))
    elif how == 'load_from':
        options += [f'load_from={checkpoint}']
    else:
        options += ['model.backbone.init_cfg.type=Pretrained', f'model.backbone.init_cfg.checkpoint={checkpoint}']
    said = refused('train', 'sclip_learned_demo', '--resume', options=options)
    assert ('init_cfg' if how == 'init_cfg' else 'more than tensors') in said


def with_checkpoint(path):
    config = load_config('sclip_demo')
    config.load_from = str(path)
    return config


BUILDERS = dict(
    attention=lambda path: attention.main(['--demo', '--checkpoint', str(path), '--out-dir', f'{path}.d']),
    inferencer=lambda path: SCLIPInferencer('sclip_demo', cfg_options=dict(load_from=str(path)), device='cpu'),
    methods=lambda path: model_of([Method('mine', with_checkpoint(path))], 'cpu').__enter__(),
)


@pytest.mark.parametrize('through', BUILDERS)
def test_checkpoints_of_the_library(checkpoint, through):
    with pytest.raises(BadFileError, match='iter_1.pth cannot be loaded.*more than tensors'):
        BUILDERS[through](checkpoint)


def test_no_other_reader_of_pickles_stands_in_the_package():
    names = r'torch\.load|jit\.load|np\.load|pickle\.loads?|Unpickler|load_checkpoint'
    readers = re.compile(rf'(?:{names})\(([^`\n]*)$', re.M)
    files = [*PACKAGE.rglob('*.py'), *PACKAGE.parent.glob('tools/**/*.py')]
    found = sorted((path.name, given) for path in files for given in readers.findall(path.read_text()))
    assert found == [
        ('runner.py', "self, filename: str, map_location='cpu', strict=False, **kwargs) -> dict:"),
        ('torchscript.py', 'file).load()'),
        ('torchscript.py', 'pickle.Unpickler):'),
        ('train_demo_clip.py', 'resume, weights_only=True)'),
        ('weights.py', "file, map_location='cpu', weights_only=True, mmap=mmap)"),
    ]
