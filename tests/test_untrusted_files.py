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

from mmseg_sclip.cli import main
from mmseg_sclip.config import load_config
from mmseg_sclip.engine.loading import read_checkpoint
from mmseg_sclip.errors import BadFileError
from mmseg_sclip.files import MARK
from mmseg_sclip.paths import PACKAGE

pytestmark = pytest.mark.filterwarnings('ignore:.torch.jit:FutureWarning', 'ignore:Detected pickle:UserWarning')
FEW = ['--cfg-options', 'test_dataloader.num_workers=0', 'test_dataloader.dataset.count=3']


class Payload:
    """A pickle of it makes a file when it is read."""

    def __init__(self, made):
        self.made = made

    def __reduce__(self):
        return open, (str(self.made), 'w')


@pytest.fixture
def made(tmp_path):
    return tmp_path / 'made'


@pytest.fixture
def ran(made):
    """Whether it was read; the payload works, or all would pass."""
    pickle.loads(pickle.dumps(Payload(made))).close()
    made.unlink()
    return made.exists


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


def refused(capfd, *argv):
    """Run the command, which must end with one plain message, and return that."""
    code, err = main.main([*map(str, argv)]), capfd.readouterr().err
    assert code == 1 and 'Traceback' not in err, err
    last = err.rstrip('\n').rpartition('\n')[2]
    assert last.startswith('Error: ')
    return last


@pytest.fixture
def test(fresh_engine, tmp_path, capfd):
    """`test(*flags, config='sclip_demo')` runs the command, and returns its message."""

    def run(*flags, config='sclip_demo'):
        return refused(capfd, 'test', config, '--device', 'cpu', '--work-dir', tmp_path / 'work', *flags, *FEW)

    return run


@pytest.mark.parametrize(
    'form, suffix',
    [*((form, suffix) for form in FORMS for suffix in ('.pt', '.safetensors')), ('zip', '.pth'), ('zip', '.bin')],
)
def test_weights(test, mini_json, tmp_path, ran, made, form, suffix):
    path = tmp_path / f'weights{suffix}'
    path.write_bytes(FORMS[form](Payload(made)))
    assert str(path) in test('--model-name', mini_json, '--pretrained', path)
    assert not ran()


@pytest.mark.parametrize('name', ['open_clip_pytorch_model.bin', 'open_clip_model.safetensors'])
def test_weights_in_a_folder(test, mini_json, tmp_path, ran, made, name):
    folder = tmp_path / 'folder'
    folder.mkdir()
    content = dict(model_cfg=json.loads(mini_json.read_text()), preprocess_cfg={})
    (folder / 'open_clip_config.json').write_text(json.dumps(content))
    (folder / name).write_bytes(saved(Payload(made)))
    assert name in test('--model-name', f'local-dir:{folder}')
    assert not ran()


@pytest.mark.parametrize('form', FORMS)
def test_the_checkpoint_of_a_test(test, tmp_path, ran, made, form):
    path = tmp_path / 'checkpoint.pth'
    path.write_bytes(FORMS[form](Payload(made)))
    assert 'more than tensors' in test(path)
    assert not ran()


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
def test_allowed_names_are_no_way_in(tmp_path, ran, made, named):
    path = tmp_path / 'checkpoint.pth'
    path.write_bytes(saved(ALLOWED[named](Payload(made))))
    with pytest.raises(BadFileError, match='more than tensors') as refusal:
        read_checkpoint(str(path))
    assert f'asks for {named})' in str(refusal.value)
    assert not ran()


@pytest.mark.parametrize('how', ['load_from', 'an address', 'resume'])
def test_checkpoints_that_a_config_names(test, tmp_path, ran, made, how):
    path = tmp_path / 'work' / 'iter_1.pth'
    path.parent.mkdir()
    path.write_bytes(saved(Payload(made)))
    config = load_config('sclip_demo')
    if how == 'resume':  # MMEngine's own takes the last checkpoint of the work folder
        config.resume = True
        (path.parent / 'last_checkpoint').write_text(str(path))
    else:
        config.load_from = str(path) if how == 'load_from' else path.as_uri()
    config.dump(tmp_path / 'config.py')
    assert 'more than tensors' in test(config=tmp_path / 'config.py')
    assert not ran()


@pytest.mark.parametrize('how', ['load_from', 'unfinished.pth'])
def test_checkpoints_of_a_training(fresh_engine, tmp_path, capfd, ran, made, how):
    work = tmp_path / 'work'
    work.mkdir()
    path = work / 'unfinished.pth' if how == 'unfinished.pth' else tmp_path / 'checkpoint.pth'
    path.write_bytes(saved(Payload(made)))
    options = ['train_dataloader.dataset.count=4', 'train_dataloader.num_workers=0']
    options += [f'load_from={path}'] * (how == 'load_from')
    argv = ['train', 'sclip_learned_demo', '--work-dir', work, '--device', 'cpu', '--resume', '--cfg-options', *options]
    assert 'more than tensors' in refused(capfd, *argv)
    assert not ran()


@pytest.mark.parametrize('where', ['model', 'model.backbone', 'model.decode_head'])
def test_weights_that_mmengine_would_read(fresh_engine, tmp_path, capfd, ran, made, where):
    path = tmp_path / 'weights.pth'
    path.write_bytes(saved(Payload(made)))
    options = ['train_dataloader.dataset.count=4', f'{where}.init_cfg.type=Pretrained']
    options += [f'{where}.init_cfg.checkpoint={path}']
    argv = [
        'train',
        'sclip_learned_demo',
        '--work-dir',
        tmp_path / 'work',
        '--device',
        'cpu',
        '--cfg-options',
        *options,
    ]
    assert 'init_cfg' in refused(capfd, *argv)
    assert not ran()


@pytest.mark.parametrize('form', FORMS)
def test_pictures(fresh_engine, tmp_path, capfd, ran, made, form):
    path = tmp_path / 'picture.png'
    path.write_bytes(FORMS[form](Payload(made)))
    argv = ['segment', path, '--config', 'sclip_demo', '--classes', 'cat', 'dog', '--out-dir', tmp_path / 'out']
    assert str(path) in refused(capfd, *argv)
    assert not ran()


@pytest.mark.parametrize('kind, suffix', [('images', 'jpg'), ('annotations', 'png')])
def test_files_of_a_dataset(test, recipe, tmp_path, ran, made, kind, suffix):
    for folder, name in (('images', '0.jpg'), ('annotations', '0.png')):
        (tmp_path / folder).mkdir()
        Image.fromarray(recipe.image(0, 64, 64)[..., 0] % 12).save(tmp_path / folder / name)
    path = tmp_path / kind / f'0.{suffix}'
    path.write_bytes(array(Payload(made)))
    assert str(path) in test('--data-root', tmp_path)
    assert not ran()


def test_journals(test, tmp_path, ran, made):
    """Of an evaluation with other settings, whose difference is to be shown."""
    folder = tmp_path / 'work' / 'journal' / 'other'
    folder.mkdir(parents=True)
    for name in ('fingerprint.json', 'counts-0.jsonl'):
        (folder / name).write_bytes(pickle.dumps(Payload(made)))
    assert str(folder) in test('--resume')
    assert not ran()


def test_hashes_and_encoded_words_are_made_anew(fresh_engine, fresh_cache, mini_clip, tmp_path, ran, made):
    argv = ['test', 'sclip_demo', '--model-name', mini_clip['model_name'], '--pretrained', mini_clip['pretrained']]
    argv = [*map(str, [*argv, '--work-dir', tmp_path / 'work', *FEW])]
    assert main.main(argv) == 0
    files = [*fresh_cache.glob('file_hashes.json'), *fresh_cache.glob('text_banks/*.safetensors')]
    assert len(files) == 2
    for path in files:
        path.write_bytes(saved(Payload(made)))
    assert main.main(argv) == 0
    assert not ran()


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
