import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch._utils import ExceptionWrapper

from mmseg_sclip import compat, errors, paths
from mmseg_sclip.cli import main

ROOT = Path(__file__).resolve().parents[2]


def command(*argv, path=(), cwd=None):
    env = {**os.environ, 'PYTHONPATH': os.pathsep.join(map(str, [*path, ROOT])), 'COLUMNS': '100'}
    return subprocess.run(
        [sys.executable, '-m', 'mmseg_sclip_cli', *argv], env=env, cwd=cwd, capture_output=True, text=True
    )


@pytest.fixture
def broken(tmp_path):
    """A folder that makes the environment look as if open_clip were too old."""
    info = tmp_path / 'site' / 'open_clip_torch-2.32.0.dist-info'
    info.mkdir(parents=True)
    (info / 'METADATA').write_text('Metadata-Version: 2.1\nName: open_clip_torch\nVersion: 2.32.0\n')
    return tmp_path / 'site'


@pytest.mark.parametrize('argv', [[], ['--help'], ['-h']])
def test_help_lists_the_commands(capsys, argv):
    assert main.main(argv) == 0
    out = capsys.readouterr().out
    assert all(name in out and entry.help in out for name, entry in main.COMMANDS.items())


def test_version(capsys):
    assert main.main(['--version']) == 0
    assert capsys.readouterr().out.startswith('mmseg_sclip 0.')


@pytest.mark.parametrize('argv, words', [(['tset'], "did you mean 'test'?"), (['--colour'], '--colour')])
def test_a_wrong_command_line_is_one_line(capsys, argv, words):
    assert main.main(argv) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith('Error: ') and words in last


@pytest.mark.parametrize('name', main.COMMANDS)
def test_every_command_explains_itself(capsys, name):
    assert main.main([name, '--help']) == 0
    assert f'usage: mmseg-sclip {name}' in capsys.readouterr().out


def test_configs_lists_names_and_paths(capsys):
    assert main.main(['configs']) == 0
    rows = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
    assert [Path(path) for _, path in rows] == paths.list_configs()
    assert [str(paths.config_path(name)) for name, _ in rows] == [path for _, path in rows]


def test_doctor_is_content(capsys):
    assert main.main(['doctor']) == 0
    out = capsys.readouterr().out
    for word in ('torch', 'mmsegmentation', 'open_clip_torch', 'numpy', 'CUDA', 'compiled mmcv ops', 'cache', 'fits'):
        assert word in out


@pytest.mark.parametrize(
    'installed, words',
    [
        ({'mmcv': None, 'mmcv-lite': None}, ['neither mmcv nor mmcv-lite', compat.INSTALL_LITE]),
        ({'mmcv': '2.2.0', 'mmcv-lite': None}, ['mmcv 2.2.0', 'mmsegmentation needs mmcv>=2.0.0rc4', 'uninstall']),
        ({'mmcv': '2.1.0', 'mmcv-lite': '2.1.0'}, ['over each other', 'pip uninstall -y mmcv mmcv-lite']),
        ({'torchvision': None}, ['torchvision is not installed', 'pip install "torchvision"']),
    ],
)
def test_doctor_names_the_pair_and_the_command(monkeypatch, capsys, installed, words):
    lite = {'mmengine': '0.10.7', 'mmsegmentation': '1.2.2', 'mmcv-lite': '2.1.0'}  # whichever family is installed
    family = {requirement.package: None for requirement in (*compat.OPENMMLAB, *compat.ONEDL)}
    found = {**compat.installed_versions(), **family, **lite, **installed}
    monkeypatch.setattr(compat, 'installed_versions', lambda: found)
    assert main.main(['doctor']) == 1
    out = capsys.readouterr().out
    assert all(word in out for word in words), out
    assert '1 to repair' in out


@pytest.mark.slow
def test_doctor_runs_where_the_package_cannot_be_imported(broken, tmp_path):
    result = command('doctor', path=[broken], cwd=tmp_path)
    assert result.returncode == 1 and 'open_clip_torch 2.32.0 is installed, but mmseg_sclip needs' in result.stdout
    assert '    pip install "open_clip_torch>=3,<4"\n' in result.stdout and result.stderr == ''


@pytest.mark.slow
def test_other_commands_end_with_the_reason_there(broken, tmp_path):
    result = command('test', 'sclip_voc21', path=[broken], cwd=tmp_path)
    assert result.returncode == 1 and 'Traceback' not in result.stderr
    assert result.stderr.startswith('Error: mmseg_sclip cannot start, because one package does not')
    assert 'pip install "open_clip_torch>=3,<4"' in result.stderr


def failing(error):
    def function(argv):
        raise error

    return function


@pytest.mark.parametrize(
    'error, line, plain',
    [
        (errors.ConfigError('a\n  b\n\nc'), 'a b c', True),
        (SystemExit('stopped for a reason'), 'stopped for a reason', True),
        (torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has'), 'window_batch=4', True),
        (RuntimeError('[gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:1'), '--resume', True),
        (RuntimeError('[gloo/transport/tcp/pair.cc:598] writev [127.0.0.1]:1: Broken pipe'), '--resume', True),
        (RuntimeError('Pin memory thread exited unexpectedly'), 'loads images was killed', True),
        (RuntimeError('class `A` in a.py: DataLoader worker (pid 5) is killed by signal'), 'images was killed', True),
        (ConnectionResetError(104, 'Connection reset by peer'), 'ConnectionResetError: [Errno 104] Conn', False),
        (ValueError('of a library'), 'ValueError: of a library', False),
        (KeyError('crop'), "KeyError: 'crop'", False),
        (AssertionError(), 'AssertionError', False),
        (FileNotFoundError(2, 'No such file', 'x.jpg'), "FileNotFoundError: [Errno 2] No such file: 'x.jpg'", False),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else '',
)
def test_errors_of_ours_end_with_one_line_others_with_a_traceback(capsys, error, line, plain):
    assert errors.run(failing(error), []) == 1
    text = capsys.readouterr().err
    assert line in text.splitlines()[-1] and text.splitlines()[-1].startswith('Error: ')
    assert ('Traceback' in text) != plain and (len(text.splitlines()) == 1) == plain


def test_debug_shows_the_traceback_before_the_line(capsys):
    assert errors.run(failing(errors.ConfigError('bad value')), ['--debug']) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith('Traceback') and lines[-1] == 'Error: bad value'


@pytest.mark.parametrize('result, code', [(None, 0), (0, 0), (3, 3)])
def test_exit_codes_pass_through(result, code):
    assert errors.run(lambda argv: result, []) == code
    assert errors.run(failing(SystemExit(result)), []) == code
    assert errors.run(failing(KeyboardInterrupt()), []) == 130


class Corrupt(torch.utils.data.Dataset):
    def __init__(self, error):
        self.error = error

    def __len__(self):
        return 1

    def __getitem__(self, index):
        try:
            raise ValueError('the first cause')
        except ValueError:
            raise self.error  # noqa: B904 (the chained traceback is what is tested)


@pytest.mark.parametrize(
    'error, line',
    [
        (errors.BadFileError('a.jpg is cut\nuse another file'), 'BadFileError: a.jpg is cut use another file'),
        (KeyError('label'), "KeyError: 'label'"),
        (AssertionError(), 'AssertionError'),
    ],
)
def test_errors_of_loader_workers_are_unwrapped(capsys, error, line):
    loader = iter(torch.utils.data.DataLoader(Corrupt(error), num_workers=1))
    assert errors.run(lambda argv: next(loader), []) == 1
    loader._shutdown_workers()  # found by the garbage collector, the worker would stay for seconds
    assert line.split(': ', 1)[-1] in capsys.readouterr().err.splitlines()[-1]


class Samples(torch.utils.data.Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        return torch.zeros(8)


def test_a_worker_that_dies_with_a_sample_in_its_hands_is_named(monkeypatch, capsys):
    # As where the system has closed its socket, and shows its death an instant later: torch sees a living worker.
    monkeypatch.setattr('torch.utils.data._utils.signal_handling._error_if_any_worker_fails', lambda: None)
    loader = iter(torch.utils.data.DataLoader(Samples(), batch_size=1, num_workers=1))
    next(loader)
    (worker,) = loader._workers
    while not loader._worker_result_queue._reader.poll(1):
        pass
    worker.kill()
    worker.join()
    monkeypatch.setattr(type(worker), 'is_alive', lambda self: True)
    try:
        assert errors.run(lambda argv: next(loader), []) == 1
    finally:
        monkeypatch.undo()
    seen = capsys.readouterr().err
    assert seen.startswith('Error: A process that loads images was killed') and '--resume' in seen


def test_the_death_of_a_worker_that_becomes_known_late_is_told(monkeypatch, capsys):
    late = [RuntimeError('DataLoader worker (pid 5) is killed by signal: Killed.')]

    def describe(error, real=errors.describe):
        if late:
            raise late.pop()  # as torch's handler of SIGCHLD does, wherever it finds this process
        return real(error)

    monkeypatch.setattr(errors, 'describe', describe)
    assert errors.run(failing(errors.ConfigError('the first')), []) == 1
    assert capsys.readouterr().err.startswith('Error: A process that loads images was killed')
    late.append(RuntimeError('a bug'))
    with pytest.raises(RuntimeError, match='a bug'):
        errors.run(failing(errors.ConfigError('the first')), [])


def test_an_error_of_a_loaders_worker_is_told_without_its_traceback():
    try:
        raise errors.ConfigError('the words')
    except errors.ConfigError:
        wrapped = ExceptionWrapper(where='in DataLoader worker process 0')
    with pytest.raises(errors.ConfigError) as caught:
        wrapped.reraise()
    assert errors.describe(caught.value) == 'the words'


def test_failed_custom_imports_name_the_cause(tmp_path):
    from mmengine.config import Config

    (tmp_path / 'config.py').write_text("custom_imports = dict(imports=['no_such_module'])")
    with pytest.raises(ImportError) as caught:
        Config.fromfile(tmp_path / 'config.py')
    line = errors.describe(caught.value)
    assert line.startswith("No module named 'no_such_module' (a module in `custom_imports`")
