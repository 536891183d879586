"""The console command, and how errors of any kind end."""

from pathlib import Path

import pytest
import torch
from torch._utils import ExceptionWrapper

from mmseg_sclip import errors, paths
from mmseg_sclip.cli import main
from mmseg_sclip.compat import report, versions


def test_help_lists_the_commands_and_each_explains_itself(run):
    for argv in ([], ['--help']):
        code, out, _ = run(*argv)
        assert code == 0 and all(f'  {name} ' in out and entry.help in out for name, entry in main.COMMANDS.items())
    assert all(f'usage: mmseg-sclip {name}' in run(name, '--help').out for name in main.COMMANDS)


def test_configs_and_version(run):
    rows = [line.split(maxsplit=1) for line in run('configs').out.splitlines()]
    assert [Path(path) for _, path in rows] == paths.list_configs()
    assert [str(paths.config_path(name)) for name, _ in rows] == [path for _, path in rows]
    assert run('--version').out.startswith('mmseg_sclip 0.')


@pytest.mark.parametrize(
    'installed, words',
    [
        ({'mmcv': None, 'mmcv-lite': None}, ['neither mmcv nor mmcv-lite', versions.INSTALL_LITE]),
        ({'mmcv': '2.2.0', 'mmcv-lite': None}, ['mmcv 2.2.0', 'mmsegmentation needs mmcv>=2.0.0rc4', 'uninstall']),
        ({'mmcv': '2.1.0', 'mmcv-lite': '2.1.0'}, ['over each other', 'pip uninstall -y mmcv mmcv-lite']),
        ({'torchvision': None}, ['torchvision is not installed', 'pip install "torchvision"']),
        ({}, ['Everything fits', 'open_clip_torch', 'numpy', 'CUDA', 'compiled mmcv ops', 'cache', 'configs']),
    ],
)
def test_doctor(monkeypatch, run, installed, words):
    lite = {'mmengine': '0.10.7', 'mmsegmentation': '1.2.2', 'mmcv-lite': '2.1.0'}  # whichever family is installed
    family = {requirement.package: None for requirement in (*versions.OPENMMLAB, *versions.ONEDL)}
    found = {**versions.installed_versions(), **family, **lite, **installed}
    monkeypatch.setattr(report, 'installed_versions', lambda: found)
    code, out, _ = run('doctor')
    assert all(word in out for word in words), out
    assert code == bool(installed) and ('1 to repair' in out) == bool(installed)


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
    assert errors.run(lambda argv: result, []) == errors.run(failing(SystemExit(result)), []) == code
    assert errors.run(failing(KeyboardInterrupt()), []) == 130


@pytest.mark.parametrize(
    'error, line', [(errors.BadFileError('a is cut\nuse b'), 'a is cut use b'), (KeyError('x'), "'x'")]
)
def test_errors_of_loader_workers_are_unwrapped(capsys, error, line):
    try:
        try:
            raise ValueError('the first cause')
        except ValueError:
            raise error  # noqa: B904 (the chained traceback is what is tested)
    except Exception:
        wrapped = ExceptionWrapper(where='in DataLoader worker process 0')  # what a worker sends
    assert errors.run(lambda argv: wrapped.reraise(), []) == 1
    assert capsys.readouterr().err.splitlines()[-1].endswith(line)


def test_a_worker_that_dies_with_a_sample_in_its_hands_is_named(capsys):
    """As where the system has closed its socket, and shows its death an instant later: torch sees a living worker."""
    receiving = {'__name__': 'torch.multiprocessing.reductions'}
    exec('def rebuild(argv): raise ConnectionResetError(104, "Connection reset by peer")', receiving)
    assert errors.run(receiving['rebuild'], []) == 1
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


@pytest.fixture
def interrupted(monkeypatch):
    def interrupt(*_):
        raise errors.Interrupted(15, 'Partial result.')

    monkeypatch.setattr('mmseg_sclip.cli.test.evaluate', interrupt)


@pytest.mark.parametrize(
    'called, words',
    [
        ('/usr/bin/mmseg-sclip', 'mmseg-sclip test'),
        ('{root}/mmseg_sclip/__main__.py', 'python -m mmseg_sclip test'),
        ('{root}/tools/test.py', 'python {root}/tools/test.py'),
    ],
)
def test_an_interrupted_test_prints_the_command_to_go_on_with(interrupted, monkeypatch, run, called, words):
    root = Path(__file__).resolve().parents[2]
    monkeypatch.setattr('sys.argv', [called.format(root=root)])
    for given in ([], ['--resume']):
        result = run('test', 'sclip_demo', '--work-dir', 'my runs', *given)
        how = f"{words.format(root=root)} sclip_demo --work-dir 'my runs' --resume"
        assert (result.code, result.last) == (143, f'Interrupted. Partial result. Go on with: {how}')


def test_what_started_several_processes_must_do_so_again(interrupted, monkeypatch, run):
    monkeypatch.setattr('mmseg_sclip.cli.test.join_processes', lambda launcher, device: device)
    result = run('test', 'sclip_demo', '--launcher', 'pytorch')
    assert result.code == 143 and result.err.endswith('Partial result. Go on with: the same command with --resume\n')
