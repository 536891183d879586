"""Nothing that is read runs code: a pickle that would make a file is put into every place where files are read."""

import io
import json
import pickle
import re
import zipfile
from collections import OrderedDict

import mmseg_sclip  # isort: skip  # noqa: F401  before anything that imports mmseg, which mmcv-lite needs
import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from PIL import Image
from torch import nn

from mmseg_sclip.apis import read_photograph
from mmseg_sclip.cli import main
from mmseg_sclip.config import load_config
from mmseg_sclip.engine.loading import read_checkpoint
from mmseg_sclip.errors import BadFileError
from mmseg_sclip.files import MARK
from mmseg_sclip.images import read_evaluated
from mmseg_sclip.models.clip.weights import read_weights
from mmseg_sclip.paths import PACKAGE

pytestmark = pytest.mark.filterwarnings('ignore:.torch.jit:FutureWarning', 'ignore:Detected pickle:UserWarning')
FEW = ['test_dataloader.num_workers=0', 'test_dataloader.dataset.count=3']


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
READERS = {
    read_weights: ['a.pt', 'a.safetensors', 'a.pth', 'a.bin'],
    lambda path: read_checkpoint(str(path)): ['a.pth'],
    read_photograph: ['a.png', 'a.tif'],
    lambda path: read_evaluated(str(path)): ['a.png'],
}


@pytest.mark.parametrize('form', FORMS)
@pytest.mark.parametrize('read, name', [(read, name) for read, names in READERS.items() for name in names])
def test_readers(tmp_path, payload, read, name, form):
    (tmp_path / name).write_bytes(FORMS[form](payload))
    with pytest.raises(BadFileError, match=name):
        read(tmp_path / name)


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


# What stands behind names that checkpoints may hold, as NumPy and MMEngine pickle their own.
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


# --- the same through the commands: each place where one of these readers is called ---


@pytest.fixture
def refused(fresh_engine, tmp_path, capfd):
    """`refused(command, config, *flags)` runs it, which must end with one plain message, and returns that."""

    def run(command, config, *flags, options=()):
        argv = [command, config, '--device', 'cpu', '--work-dir', tmp_path / 'work', *flags]
        code = main.main([*map(str, argv), '--cfg-options', *FEW, *options])
        last = capfd.readouterr().err.rstrip('\n').rpartition('\n')[2]
        assert code == 1 and last.startswith('Error: ')
        return last

    return run


@pytest.mark.parametrize('name', ['weights.pt', 'open_clip_pytorch_model.bin', 'open_clip_model.safetensors'])
def test_weights(refused, mini_json, tmp_path, payload, name):
    folder = tmp_path / 'folder'
    folder.mkdir()
    (folder / name).write_bytes(saved(payload))
    content = dict(model_cfg=json.loads(mini_json.read_text()), preprocess_cfg={})
    (folder / 'open_clip_config.json').write_text(json.dumps(content))
    flags = ['--model-name', f'local-dir:{folder}']
    if name == 'weights.pt':
        flags = ['--model-name', mini_json, '--pretrained', folder / name]
    assert name in refused('test', 'sclip_demo', *flags)


@pytest.mark.parametrize('how', ['argument', 'load_from', 'an address', 'resume', 'training', 'unfinished', 'init_cfg'])
def test_checkpoints(refused, tmp_path, payload, how):
    work = tmp_path / 'work'
    work.mkdir()
    path = work / ('unfinished.pth' if how == 'unfinished' else 'iter_1.pth')
    path.write_bytes(saved(payload))
    if how == 'argument':
        said = refused('test', 'sclip_demo', path)
    elif how in ('training', 'unfinished', 'init_cfg'):
        options = ['train_dataloader.dataset.count=4', 'train_dataloader.num_workers=0']
        options += [f'load_from={path}'] * (how == 'training')
        if how == 'init_cfg':
            options += ['model.backbone.init_cfg.type=Pretrained', f'model.backbone.init_cfg.checkpoint={path}']
        said = refused('train', 'sclip_learned_demo', '--resume', options=options)
    else:
        config = load_config('sclip_demo')
        if how == 'resume':  # MMEngine's own takes the last checkpoint of the work folder
            config.resume = True
            (work / 'last_checkpoint').write_text(str(path))
        else:
            config.load_from = str(path) if how == 'load_from' else path.as_uri()
        config.dump(tmp_path / 'config.py')
        said = refused('test', tmp_path / 'config.py')
    assert ('init_cfg' if how == 'init_cfg' else 'more than tensors') in said


@pytest.mark.parametrize('kind, suffix', [('images', 'jpg'), ('annotations', 'png')])
def test_files_of_a_dataset(refused, recipe, tmp_path, payload, kind, suffix):
    for folder, name in (('images', '0.jpg'), ('annotations', '0.png')):
        (tmp_path / folder).mkdir()
        Image.fromarray(recipe.image(0, 64, 64)[..., 0] % 12).save(tmp_path / folder / name)
    path = tmp_path / kind / f'0.{suffix}'
    path.write_bytes(array(payload))
    assert str(path) in refused('test', 'sclip_demo', '--data-root', tmp_path)


def test_journals(refused, tmp_path, payload):
    """Of an evaluation with other settings, whose difference is to be shown."""
    folder = tmp_path / 'work' / 'journal' / 'other'
    folder.mkdir(parents=True)
    for name in ('fingerprint.json', 'counts-0.jsonl'):
        (folder / name).write_bytes(pickle.dumps(payload))
    assert str(folder) in refused('test', 'sclip_demo', '--resume')


def test_hashes_and_encoded_words_are_made_anew(fresh_engine, fresh_cache, mini_clip, tmp_path, payload):
    argv = ['test', 'sclip_demo', '--model-name', mini_clip['model_name'], '--pretrained', mini_clip['pretrained']]
    argv = [*map(str, [*argv, '--work-dir', tmp_path / 'work', '--cfg-options', *FEW])]
    assert main.main(argv) == 0
    files = [*fresh_cache.glob('file_hashes.json'), *fresh_cache.glob('text_banks/*.safetensors')]
    assert len(files) == 2
    for path in files:
        path.write_bytes(saved(payload))
    assert main.main(argv) == 0


def test_no_other_reader_of_pickles_stands_in_the_package():
    readers = re.compile(
        r'(?:torch\.load|jit\.load|np\.load|pickle\.loads?|Unpickler|load_checkpoint)\(([^`\n]*)$', re.M
    )
    files = [*PACKAGE.rglob('*.py'), *PACKAGE.parent.glob('tools/**/*.py')]
    found = sorted((path.name, given) for path in files for given in readers.findall(path.read_text()))
    assert found == [
        ('runner.py', "self, filename: str, map_location='cpu', strict=False, **kwargs) -> dict:"),
        ('torchscript.py', 'file).load()'),
        ('torchscript.py', 'pickle.Unpickler):'),
        ('train_demo_clip.py', 'resume, weights_only=True)'),
        ('weights.py', "file, map_location='cpu', weights_only=True, mmap=mmap)"),
    ]
